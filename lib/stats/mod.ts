/**
 * Statistics: rankings, intervals and tests, for series whose neighbours depend on each other.
 * @module
 */
export * from "./bootstrap.ts";
export * from "./mcnemar.ts";
export * from "./multiple.ts";
export * from "./normal.ts";
export { pairedInterval } from "./paired.ts";
export { auroc, spearman } from "./ranking.ts";
export * from "./shares.ts";
