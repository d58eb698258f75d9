/** Building the native libraries and fetching a BLAS, into the user's cache. */
export type { FoundBlas } from "../blas.ts";
export type { CpuManifest, LibraryManifest } from "../cache.ts";
export { CUDA_ARCHS } from "../library/sources.ts";
export { ensureBlas } from "./blas.ts";
export type { BuildOptions } from "./command.ts";
export { buildCpu, type CpuBuildOptions } from "./cpu.ts";
export { buildCuda, type CudaBuildOptions, type CudaManifest } from "./cuda.ts";
export type { KernelResources } from "./resources.ts";
export { runBuild } from "./run_build.ts";
export type { BuiltLibrary } from "./store.ts";
