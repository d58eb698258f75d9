/**
 * The cost of skipping on a text: perplexity, and the distance of the filtered model from the full one.
 *
 * ```ts
 * import { createPruner, loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { PerplexityEvaluation } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode(await readBuiltinText()).slice(0, 64);
 * const result = await new PerplexityEvaluation(model, ids, { context: 64 }).run(createPruner("key", config));
 * console.assert(result.perplexity > result.densePerplexity);
 * ```
 *
 * Also: time and memory against length, statistics of the heads of the full model, and recorded decisions, to replay.
 * @module
 */
export {
  encodeItem,
  findTask,
  ItemScorer,
  type LengthRow,
  measureLengths,
  PerplexityEvaluation,
  type PerplexityOptions,
  readItems,
  type Task,
} from "../eval/mod.ts";
export { DecisionRecorder, HeadCollection, type HeadReport, replayTable } from "../heads/mod.ts";
