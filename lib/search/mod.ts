/**
 * Search: spaces, samplers, races, and which axes matter. Nothing here knows what is searched.
 * @module
 */
export * from "./axis.ts";
export { hypervolume } from "./hypervolume.ts";
export { pedAnova } from "./ped_anova.ts";
export * from "./race.ts";
export { RandomStream } from "./random_stream.ts";
export * from "./sampler.ts";
export { MAX_DIMENSIONS } from "./sobol.ts";
