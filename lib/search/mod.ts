/**
 * Search: spaces, samplers, races, and the importance of axes. Nothing here depends on the thing that is searched.
 * @module
 */
export * from "./axis.ts";
export { hypervolume } from "./hypervolume.ts";
export { pedAnova } from "./ped_anova.ts";
export * from "./race.ts";
export { RandomStream } from "./random_stream.ts";
export * from "./sampler.ts";
