/** Records of `test:gpu`: features that are on by default where all tests of a device, driver and build have passed. */
import { cacheDir, ifThere, prepareCacheDir, writeAtomically } from "../../lib/cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import type { CudaDevice } from "./driver/driver.ts";

/** A tested build. Another device, driver or build needs a run of its own. */
export interface TestedBuild {
  readonly device: string;
  /** 10 * major + minor of the device's compute capability. */
  readonly arch: number;
  /** CUDA version that the driver serves, as `cuDriverGetVersion` numbers it. */
  readonly driver: number;
  /** SHA-256 of the library. */
  readonly library: string;
}

/** `none`: no record is used. */
const VARIABLE = "TOKENFILTER_GPU_TESTED";

export function testedBuild({ name, arch }: CudaDevice, driver: number, library: string): TestedBuild {
  return { device: name, arch, driver, library };
}

/** The text of a record. */
const textOf = ({ device, arch, driver, library }: TestedBuild) =>
  JSON.stringify({ device, arch, driver, library }) + "\n";

/** Path of a build's record. */
async function testedPath(build: TestedBuild): Promise<string> {
  return `${cacheDir()}/gpu-tested-${(await sha256(textOf(build))).slice(0, 16)}.json`;
}

/** Notes whether all tests of a build have passed: a failure takes an earlier record away. */
export async function noteTested(build: TestedBuild, passed: boolean): Promise<void> {
  const path = await testedPath(build);
  if (passed) {
    await prepareCacheDir();
    return await writeAtomically(path, textOf(build));
  }
  await ifThere(Deno.remove(path));
}

/** Whether all tests of a build have passed on this machine. */
export async function wasTested(build: TestedBuild): Promise<boolean> {
  if (Deno.env.get(VARIABLE) === "none") return false;
  return await ifThere(Deno.readTextFile(await testedPath(build))) === textOf(build);
}
