/**
 * What skipping costs on a text: perplexity, and how far the filtered model is from the dense one.
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
 * Also: time and memory against length, what the heads of the dense model see, and records of decisions, which can be
 * taken again.
 * @module
 */
export * from "../eval/chunk_evaluation.ts";
export * from "../eval/chunks.ts";
export * from "../eval/filter_reach.ts";
export * from "../eval/generated_task.ts";
export * from "../eval/item_metrics.ts";
export * from "../eval/item_rows.ts";
export * from "../eval/encoded_item.ts";
export * from "../eval/item_scorer.ts";
export * from "../eval/item_summary.ts";
export * from "../eval/item_task.ts";
export * from "../eval/language_model.ts";
export * from "../eval/lengths.ts";
export * from "../eval/skip_ratio.ts";
export * from "../eval/task.ts";
export * from "../eval/tasks/mod.ts";
export * from "../eval/verdict.ts";
export * from "../heads/mod.ts";
export { measureParts } from "../model/pruning/calibrated.ts";
