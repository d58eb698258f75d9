/**
 * Times the toolkit's dense model as `llama_cpp_speed.mjs` times llama.cpp: prefill of a prompt (logits of the last
 * token alone, and of all), and greedy decode, medians of several runs.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/verify/toolkit_speed.ts MODEL
 *          [--threads 2] [--prompt 512] [--decode 128] [--runs 5]
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../ffi/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";

const args = parseArgs(Deno.args, {
  string: ["threads", "prompt", "decode", "runs"],
  default: { threads: "2", prompt: "512", decode: "128", runs: "5" },
});
const [prompt, decode, runs] = [args.prompt, args.decode, args.runs].map(Number) as [number, number, number];
const backend = await openCpu({ threads: Number(args.threads) });
const { model } = await loadModel(String(args._[0]), backend);
const { vocabSize } = model.config;
const ids = Int32Array.from({ length: prompt }, (_, i) => 300 + (i * 7919) % (vocabSize - 300));

/** The likeliest token after the last row of hidden states. */
function nextToken(hidden: ReturnType<typeof model.logits>): number {
  const last = backend.alloc("f32", [1, model.config.hiddenSize]);
  const row = backend.upload(hostTensor("i32", [1], Int32Array.of(hidden.shape[0]! - 1)));
  backend.gatherRows(hidden, row, last);
  const logits = f32Data(backend.read(model.logits(last)));
  let best = 0;
  for (let i = 1; i < vocabSize; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Milliseconds of a prefill to its first new token, and of the `decode` tokens after it. */
function run(): [number, number] {
  const start = performance.now(), sequence = model.start();
  let token = nextToken(sequence.feed(ids));
  const first = performance.now();
  for (let i = 0; i < decode; i++) token = nextToken(sequence.feed(Int32Array.of(token)));
  return [first - start, performance.now() - first];
}

/** Milliseconds of a prefill with the logits of all tokens. */
function score(): number {
  const start = performance.now();
  model.logits(model.start().feed(ids));
  return performance.now() - start;
}

const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!;
run();
const times = Array.from({ length: runs }, run);
const prefillTimeMs = median(times.map((t) => t[0])), decodeTimeMs = median(times.map((t) => t[1]));
console.log(JSON.stringify({
  engine: `tokenfilter ${backend.description}`,
  prefillTimeMs,
  decodeTimeMs,
  prefillTokensPerS: prompt / prefillTimeMs * 1e3,
  decodeTokensPerS: decode / decodeTimeMs * 1e3,
  prefillAllLogitsTimeMs: median(Array.from({ length: runs }, score)),
  runs: times,
}));
