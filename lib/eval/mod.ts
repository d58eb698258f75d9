/**
 * Evaluation: losses, perplexity, and how far a filtered model is from the dense one.
 * @module
 */
export * from "./budget.ts";
export * from "./chunks/chunk_evaluation.ts";
export * from "./chunks/chunks.ts";
export * from "./filter_reach.ts";
export * from "./items/generated_task.ts";
export * from "./items/item_metrics.ts";
export * from "./items/item_rows.ts";
export * from "./items/encoded_item.ts";
export * from "./evaluation.ts";
export * from "./items/item.ts";
export * from "./items/item_evaluation.ts";
export * from "./items/item_source.ts";
export * from "./items/item_scorer.ts";
export * from "./items/item_summary.ts";
export * from "./items/item_task.ts";
export * from "./items/python_text.ts";
export * from "./items/text_metrics.ts";
export * from "./language_model.ts";
export * from "./lengths.ts";
export * from "./metrics.ts";
export * from "./tasks/own_task.ts";
export * from "./sequence_score.ts";
export * from "./skip_ratio.ts";
export * from "./task.ts";
export * from "./tasks/mod.ts";
export * from "./text/mod.ts";
export * from "./verdict.ts";
