/**
 * Statistics: streaming moments and quantiles, rankings, intervals for series whose neighbours depend on each other,
 * and the report on heads that is made of them.
 * @module
 */
export * from "./bootstrap.ts";
export * from "./distribution.ts";
export * from "./head_report.ts";
export * from "./moments.ts";
export * from "./paired.ts";
export * from "./quantile_sketch.ts";
export { auroc, midranks, rocCurve, spearman } from "./ranking.ts";
export * from "./ranking_bootstrap.ts";
