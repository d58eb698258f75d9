/**
 * Pages made of plots and tables: of a sweep, a comparison, a benchmark, heads, and a site of them all.
 * @module
 */
export * from "./bench.ts";
export * from "./best_so_far.ts";
export * from "./comparison.ts";
export * from "../csv.ts";
export * from "./difference.ts";
export * from "./heads.ts";
export * from "./pairs_table.ts";
export * from "./paper_table.ts";
export * from "./reproduction.ts";
export * from "./results.ts";
export * from "./site.ts";
export * from "./search_notes.ts";
export * from "./sweep.ts";
export * from "./trial_table.ts";
export * from "./verdict.ts";
