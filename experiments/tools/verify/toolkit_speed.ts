/**
 * Times the toolkit's model as `llama_cpp_speed.mjs` times llama.cpp: prefill and greedy decode, as medians of several
 * runs, without a method and with the preset `keys`. It also prints the loading time and the peak memory.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/verify/toolkit_speed.ts MODEL
 *          [--threads 2] [--prompt 512] [--decode 128] [--runs 5] [--keys SHARE] [--all-logits] [--no-warmup]
 *          [--matmul exact] [--cache-dtype f32]
 *
 * --keys: the fraction of keys and values that the preset drops; without it, only the full model runs. --all-logits:
 * also a prefill with the logits of all tokens. --no-warmup: the first run counts. This suits a large model: its
 * weights are read by then. --cache-dtype: the type of keys and values in the cache; llama.cpp's are f16.
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { PRODUCTS } from "../../../lib/backend.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { f32Data, hostTensor } from "../../../lib/tensor.ts";

const args = parseArgs(Deno.args, {
  string: ["threads", "prompt", "decode", "runs", "keys", "matmul", "cache-dtype"],
  boolean: ["all-logits", "warmup"],
  negatable: ["warmup"],
  default: {
    threads: "2",
    prompt: "512",
    decode: "128",
    runs: "5",
    warmup: true,
    matmul: "exact",
    "cache-dtype": "f32",
  },
});
const [prompt, decode, runs] = [args.prompt, args.decode, args.runs].map(Number) as [number, number, number];
const products = PRODUCTS.find((name) => name === args.matmul);
if (products === undefined) {
  console.error(`Cannot use --matmul ${args.matmul}: expected one of ${PRODUCTS.join(", ")}`);
  Deno.exit(2);
}
const cacheDType = (["f32", "f16", "bf16"] as const).find((name) => name === args["cache-dtype"]);
if (cacheDType === undefined) {
  console.error(`Cannot use --cache-dtype ${args["cache-dtype"]}: expected f32, f16 or bf16`);
  Deno.exit(2);
}
const backend = await openCpu({ threads: Number(args.threads), products });
const begin = performance.now();
const { model, config, weights } = await loadModel(String(args._[0]), backend, { cacheDType });
const loadTimeMs = performance.now() - begin;
const { vocabSize } = config;
const ids = Int32Array.from({ length: prompt }, (_, i) => 300 + (i * 7919) % (vocabSize - 300));
type Pruner = Parameters<typeof model.start>[0];

/** The likeliest token after the last row of hidden states. */
function nextToken(hidden: ReturnType<typeof model.logits>): number {
  const last = backend.alloc("f32", [1, config.hiddenSize]);
  const row = backend.upload(hostTensor("i32", [1], Int32Array.of(hidden.shape[0]! - 1)));
  backend.gatherRows(hidden, row, last);
  const logits = f32Data(backend.read(model.logits(last)));
  let best = 0;
  for (let i = 1; i < vocabSize; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Milliseconds of a prefill to its first new token, and of the `decode` tokens after it. */
function run(pruner?: Pruner): [number, number] {
  const start = performance.now(), sequence = model.start(pruner);
  let token = nextToken(sequence.feed(ids));
  const first = performance.now();
  for (let i = 0; i < decode; i++) token = nextToken(sequence.feed(Int32Array.of(token)));
  const times: [number, number] = [first - start, performance.now() - first];
  sequence.free();
  return times;
}

const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!;

/** Times of runs, by the names that the scripts next to this one use. */
function time(pruner?: Pruner) {
  if (args.warmup) run(pruner);
  const times = Array.from({ length: runs }, () => run(pruner));
  const prefillTimeMs = median(times.map((t) => t[0])), decodeTimeMs = median(times.map((t) => t[1]));
  return {
    prefillTimeMs,
    decodeTimeMs,
    prefillTokensPerS: prompt / prefillTimeMs * 1e3,
    decodeTokensPerS: decode / decodeTimeMs * 1e3,
    runs: times,
  };
}

/** Milliseconds of a prefill with the logits of all tokens. */
function score(): number {
  const start = performance.now();
  model.logits(model.start().feed(ids));
  return performance.now() - start;
}

const dense = time();
const keys = args.keys === undefined ? undefined : time(
  createPruner("token-filtering", config, { preset: "keys", pruneRatio: Number(args.keys) }, { backend }),
);
const status = Deno.build.os === "linux" ? Deno.readTextFileSync("/proc/self/status") : "";
console.log(JSON.stringify({
  engine: `tokenfilter ${backend.description}`,
  loadTimeMs,
  weightBytes: weights.bytes,
  // Memory of the process: it includes mapped libraries and files as far as they are resident.
  peakBytes: Number(/VmHWM:\s*(\d+)/.exec(status)?.[1]) * 1024 || undefined,
  ...dense,
  keys,
  ...(args["all-logits"] && { prefillAllLogitsTimeMs: median(Array.from({ length: runs }, score)) }),
}));
