/**
 * Scores chunks of a text, each a sequence of its own, for `compare_scores.py`; `numpy_llama.py` does the same.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/verify/score_chunks.ts
 *          MODEL IDS.json OPTIONS.json OUT.json
 *
 * IDS.json has lists of token ids, OPTIONS.json the method's options (`null`: none). OUT.json is written again after
 * every chunk: a list of {ids, nll (nats), keep, layers, kvKeep, kvLayers}, masks as of `deno task score --json`.
 */
import { openCpu } from "../../../ffi/mod.ts";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";

const [name, idsPath, optionsPath, out] = Deno.args as [string, string, string, string];
const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(path));
const backend = await openCpu({ build: true }), { model, config } = await loadModel(name, backend);
const options = await readJson(optionsPath), chunks: number[][] = await readJson(idsPath);
const pruner = options === null ? undefined : createPruner("token-filtering", config, options, { backend });
/** A side whose state at the start is that of this chunk. */
const begin = <S extends { start(chunk?: number): unknown }>(side: S, chunk: number): S => ({
  ...side,
  start: () => side.start(chunk),
});
const scored = [];
for (const [chunk, ids] of chunks.entries()) {
  const own = pruner && begin(pruner, chunk), keySide = pruner?.keySide && begin(pruner.keySide, chunk);
  const method = own && keySide ? { ...own, keySide } : own;
  const { nll, keep, layers, kvKeep, kvLayers } = scoreSequence(model, Int32Array.from(ids), method);
  const rows = (masks: readonly Uint8Array[]) => masks.map((mask) => Array.from(mask));
  scored.push({ ids, nll: Array.from(nll), keep: rows(keep), layers, kvKeep: rows(kvKeep), kvLayers });
  await Deno.writeTextFile(out, JSON.stringify(scored));
}
