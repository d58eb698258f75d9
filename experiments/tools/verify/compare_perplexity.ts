/**
 * Compares token ids and perplexity with the output of `llama_cpp_perplexity.py`, by the same protocol.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/verify/compare_perplexity.ts
 *          MODEL TEXT LLAMA.json [CONTEXT]
 *
 * Prints one JSON object: the model's digest, the number of ids, and the number of different ids. If LLAMA.json
 * contains chunks and not only ids, the object has both perplexities over them, and the relative excess of the
 * toolkit's over llama.cpp's.
 */
import { openCpu } from "../../../ffi/mod.ts";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";

const [name, text, path, length = "512"] = Deno.args as [string, string, string, string?];
const truth = JSON.parse(await Deno.readTextFile(path)), context = Number(length), first = context / 2;
const backend = await openCpu({ build: true });
const { model, tokenizer, sha256 } = await loadModel(name, backend);
const ids = tokenizer.encode(await Deno.readTextFile(text));
const differ = Array.from(ids, (id, i) => id !== truth.ids[i]).filter(Boolean).length;
const losses: number[] = [];
for (const [chunk, theirs] of (truth.chunks as number[]).entries()) {
  const part = ids.slice(chunk * context, (chunk + 1) * context);
  if (tokenizer.addsBos) part[0] = tokenizer.bosId!;
  // Entry i is the loss of token i + 1; token first + 1 is the first that is scored.
  const ours = scoreSequence(model, part).nll.subarray(first).reduce((a, b) => a + b, 0);
  losses.push(ours);
  const per = (sum: number) => Math.exp(sum / (context - 1 - first)).toFixed(4);
  console.error(`chunk ${chunk + 1}: ${per(ours)}, llama.cpp ${per(theirs)}`);
}
const perplexity = Math.exp(losses.reduce((a, b) => a + b, 0) / (losses.length * (context - 1 - first)));
console.log(JSON.stringify({
  sha256,
  ids: ids.length,
  idsDiffer: differ + Math.abs(ids.length - truth.ids.length),
  ...(losses.length > 0 && {
    chunks: losses.length,
    tokens: losses.length * (context - 1 - first),
    llamaCpp: truth.perplexity,
    toolkit: perplexity,
    aboveBy: perplexity / truth.perplexity - 1,
  }),
}));
