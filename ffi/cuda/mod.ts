/** The CUDA driver, its devices and their memory: for those that measure a device, not for users of the backend. */
export { CudaMemory } from "./device_memory.ts";
export { type CudaDevice, CudaDriver, openDriver } from "./driver/driver.ts";
export { buildArchOf } from "./open.ts";
export { noteTested, type TestedBuild, testedBuild } from "./tested.ts";
