/**
 * Sweeps: grids of options, trials that survive a crash, and what they add up to.
 * @module
 */
export * from "./default_grid.ts";
export * from "./digest.ts";
export * from "./trial_options.ts";
export * from "./pareto.ts";
export * from "./runner.ts";
export * from "./space.ts";
export * from "./summary.ts";
export * from "./trial.ts";
export * from "./trial_log.ts";
