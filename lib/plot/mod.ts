/**
 * Plots: figures that show themselves in notebooks and save themselves as pages and images, and reports made of them.
 *
 * Each plot is a pair: `collectX` gathers numbers from results, `plotX` draws them.
 *
 * @module
 */
export * from "./figure/mod.ts";
export * from "./plots/mod.ts";
export * from "./reports/mod.ts";
export { styleRule, withoutRatio } from "./trials/rule_style.ts";
export { isControl, methodName, MISSED_NOTE, nameTrials, requestedRatios } from "./trials/trial_label.ts";
