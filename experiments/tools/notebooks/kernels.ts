/** Libraries that notebooks use, built before they need them. */
import { buildCpu, buildCuda, ensureBlas } from "../../../build.ts";
import { buildArchOf, openDriver } from "../../../ffi/cuda/mod.ts";
import { NativeLibraryError, UsageError } from "../../../lib/errors.ts";

/**
 * Builds the CPU's library, and the GPU's if there is a GPU. A missing GPU is not reported here: a notebook that needs
 * one reports it.
 *
 * @throws {NativeLibraryError} If the CPU's library cannot be built.
 */
export async function prepareKernels(onProgress: (message: string) => void): Promise<void> {
  await Promise.all([buildCpu({ onProgress }), ensureBlas({ onProgress })]);
  let arch: number, driver: number;
  try {
    const opened = openDriver();
    [arch, driver] = [opened.device(0).arch, opened.version];
  } catch (error) {
    if (error instanceof NativeLibraryError) return;
    throw error;
  }
  try {
    await buildCuda({ archs: [buildArchOf(arch)], driver, onProgress });
  } catch (error) {
    if (!(error instanceof NativeLibraryError || error instanceof UsageError)) throw error;
    onProgress(`no GPU in the notebooks: ${error.message.split("\n")[0]}`);
  }
}
