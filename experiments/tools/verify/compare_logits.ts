/**
 * Compares the toolkit's next-token distributions with those of another engine on the same token ids.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/verify/compare_logits.ts
 *          --model MODEL --truth FILE.safetensors [--backend cpu|reference] [--threads N] [--positions N]
 *
 * FILE.safetensors comes from `hf_logprobs.py`: tensor `logprobs` [T, vocabSize] f32 and metadata `ids`, a JSON list.
 * Prints one JSON object: positions, top1Agreement, meanKl (KL(truth || toolkit), nats), maxLogprobDifference (over the
 * entries of probability above 1e-6 in the truth), both perplexities. The sums are done here, in float64.
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { loadModel, parseSafetensors } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { f32Data } from "../../../lib/tensor.ts";

const args = parseArgs(Deno.args, { string: ["model", "truth", "backend", "threads", "positions"] });
if (!args.model || !args.truth) throw new TypeError("Cannot compare: expected --model and --truth");

const dump = parseSafetensors(await Deno.readFile(args.truth), args.truth, ["logprobs"]);
const vocabSize = dump.tensors.get("logprobs")!.shape[1]!;
const truth = f32Data(dump.tensors.get("logprobs")!);
const allIds = JSON.parse(dump.metadata.get("ids")!) as number[];
const count = Math.min(Number(args.positions ?? allIds.length), allIds.length);
const ids = Int32Array.from(allIds.slice(0, count));

const backend = args.backend === "reference"
  ? new ReferenceBackend()
  : await openCpu(args.threads === undefined ? {} : { threads: Number(args.threads) });
const { model } = await loadModel(args.model, backend);
const logits = f32Data(backend.read(model.logits(model.start().feed(ids))));
if (logits.length !== count * vocabSize) {
  throw new RangeError(
    `Cannot compare: found ${logits.length / count} logits a token, expected ${vocabSize}`,
  );
}

/** Index of the largest entry, the lowest on ties. */
function top(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

let agree = 0, kl = 0, worst = 0;
const nll = { truth: 0, toolkit: 0 };
for (let t = 0; t < count; t++) {
  const p = truth.subarray(t * vocabSize, (t + 1) * vocabSize);
  const q = logits.subarray(t * vocabSize, (t + 1) * vocabSize);
  const most = q[top(q)]!;
  let sum = 0;
  for (const value of q) sum += Math.exp(value - most);
  const logSum = most + Math.log(sum);
  for (let i = 0; i < vocabSize; i++) {
    const difference = p[i]! - (q[i]! - logSum), probability = Math.exp(p[i]!);
    if (probability > 0) kl += probability * difference;
    if (probability > 1e-6) worst = Math.max(worst, Math.abs(difference));
  }
  if (top(p) === top(q)) agree++;
  if (t + 1 < count) {
    nll.truth -= p[ids[t + 1]!]!;
    nll.toolkit -= q[ids[t + 1]!]! - logSum;
  }
}
console.log(JSON.stringify({
  backend: backend.description,
  positions: count,
  top1Agreement: agree / count,
  meanKl: kl / count,
  maxLogprobDifference: worst,
  truthPerplexity: Math.exp(nll.truth / (count - 1)),
  toolkitPerplexity: Math.exp(nll.toolkit / (count - 1)),
}));
