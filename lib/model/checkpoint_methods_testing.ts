/**
 * Requirements on every architecture: methods skip on it, however its tokens are fed, and a batch decodes as a
 * sequence.
 */
import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../backend.ts";
import { createPruner, type MethodName, takesWhole } from "../methods/mod.ts";
import { BatchDecoder, batchUnsupportedReason } from "./run/batch/batch_decoder.ts";
import { goldenIds, openSource } from "./checkpoint_golden_testing.ts";
import type { Model } from "./model.ts";
import { type CheckpointName, CHECKPOINTS, hfFolder } from "./testdata/checkpoints.ts";

/** A checkpoint of each architecture. */
export const ONE_OF_EACH: readonly CheckpointName[] = [
  "llama-linear-biases",
  "mistral",
  "qwen2",
  "qwen3",
  "phi3-short",
  "gemma3",
  "smollm3",
];

/** Tokens before the first decode step. */
const PREFILL = 25;

/** A checkpoint's model on a backend. */
export function openCheckpoint(name: CheckpointName, backend: Backend): Model {
  return openSource(hfFolder(name), backend, CHECKPOINTS[name].options);
}

/** A method's decisions, [layer][token], and the logits of the last token. */
export interface Filtered {
  readonly keep: readonly (readonly number[])[];
  readonly logits: Float32Array;
}

/** Half the attention skipped by a method, which all layers look at, with recent tokens visible. */
function prunerOf(model: Model, fusion: MethodName) {
  const options = { pruneRatio: 0.5, tail: 1, warmup: 8, recent: 5 };
  return createPruner(fusion, model.config, options, { backend: model.backend });
}

/** Feeds all tokens, those past the prefill one by one where the method can. */
export function runFiltered(model: Model, fusion: MethodName): Filtered {
  const pruner = prunerOf(model, fusion), sequence = model.start(pruner);
  const whole = takesWhole(pruner) ? goldenIds.length : PREFILL;
  let hidden = sequence.feed(goldenIds.slice(0, whole));
  for (let at = whole; at < goldenIds.length; at++) hidden = sequence.feed(goldenIds.slice(at, at + 1));
  const last = model.backend.read(model.logits(hidden)).data.slice(-model.config.vocabSize) as Float32Array;
  return { keep: [...sequence.keep.values()].map((mask) => [...mask]), logits: last };
}

/** The same, the tokens past the prefill by a batch decoder next to an idle slot and one that began empty. */
export function decodeFiltered(model: Model, fusion: MethodName): Filtered {
  const pruner = prunerOf(model, fusion), sequence = model.start(pruner), { vocabSize } = model.config;
  sequence.feed(goldenIds.slice(0, PREFILL));
  const keep = [...sequence.keep.values()].map((mask) => [...mask]);
  using decoder = new BatchDecoder(model, pruner, { batch: 3, capacity: goldenIds.length });
  decoder.admit(1, sequence);
  decoder.begin(2);
  let logits = new Float32Array(0);
  for (let at = PREFILL; at < goldenIds.length; at++) {
    const all = model.backend.read(decoder.step(Int32Array.of(0, goldenIds[at]!, goldenIds[at - PREFILL]!)));
    const kept = decoder.keep();
    keep.forEach((mask, layer) => mask.push(kept[3 * layer + 1]!));
    logits = (all.data as Float32Array).slice(vocabSize, 2 * vocabSize);
  }
  return { keep, logits };
}

/** Fails unless two runs decided the same and their logits are nearly the same. */
export function assertSame(found: Filtered, expected: Filtered, what: string): void {
  assertEquals(found.keep, expected.keep, what);
  const skipped = expected.keep.flat().filter((kept) => kept === 0).length / expected.keep.flat().length;
  assert(skipped > 0.25 && skipped < 0.6, `${what}: a fraction of ${skipped} was skipped`);
  const far = found.logits.map((x, i) => Math.abs(x - expected.logits[i]!)).reduce(
    (a, b) => b <= a ? a : b,
    0,
  );
  assert(far < 1e-4, `${what}: logits are ${far} apart`);
}

/** Whether a batch decoder takes a method. */
export function decodesInBatch(model: Model, fusion: MethodName): boolean {
  return batchUnsupportedReason(prunerOf(model, fusion)) === undefined;
}
