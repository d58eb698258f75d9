/**
 * Statistics of attention heads: the similarity of each head's keys and values to the past in the dense stream, and
 * which rules find the tokens whose attention does little. Also tables of decisions that can be replayed.
 * @module
 */
export * from "./collection.ts";
export * from "./decisions.ts";
export * from "./replay_decisions.ts";
export * from "./report.ts";
export * from "./trace.ts";
