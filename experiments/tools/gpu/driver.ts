/** The state without which numbers of a GPU have no meaning: the driver's release, clocks, power. */
import { run } from "../../../ffi/build/command.ts";
import type { CudaDevice, CudaDriver } from "../../../ffi/cuda/mod.ts";

/** A driver, and the device at the time. */
interface DriverState {
  /** CUDA version that the driver serves, such as "13.0". */
  readonly cuda: string;
  /** The driver's release, such as "580.65.06"; undefined where it cannot be found. */
  readonly release: string | undefined;
  /** The device's state by the names of nvidia-smi; empty without nvidia-smi. */
  readonly state: { readonly [name: string]: string };
}

/** Fields that nvidia-smi is queried for. Nothing is set. */
const QUERIED =
  ("driver_version clocks.sm clocks.mem clocks.max.sm clocks.max.mem power.limit temperature.gpu " +
    "ecc.mode.current mig.mode.current compute_mode").split(" ");

/** Reads one answer of nvidia-smi, in `--format=csv,noheader`. */
export function readState(answer: string): { readonly [name: string]: string } {
  const values = answer.trim().split("\n")[0]!.split(",").map((value) => value.trim());
  if (values.length !== QUERIED.length) return {};
  return Object.fromEntries(
    QUERIED.flatMap((name, i) => /^\[|^N\/A|^$/.test(values[i]!) ? [] : [[name, values[i]!]]),
  );
}

/** Queries the driver, and nvidia-smi where it is there. */
export async function describeDriver(driver: CudaDriver, device: CudaDevice): Promise<DriverState> {
  const cuda = `${Math.floor(driver.version / 1000)}.${Math.floor(driver.version % 1000 / 10)}`;
  const state = await querySmi(driver.busId(device.ordinal));
  return { cuda, release: state.driver_version ?? await releaseOfModule(), state };
}

async function querySmi(busId: string): Promise<{ readonly [name: string]: string }> {
  const query = ["-i", busId, `--query-gpu=${QUERIED.join(",")}`, "--format=csv,noheader"];
  const { success, stdout } = await run("nvidia-smi", query);
  return success ? readState(stdout) : {};
}

/** The release of the kernel's module, which is the driver's. */
async function releaseOfModule(): Promise<string | undefined> {
  try {
    const text = await Deno.readTextFile("/proc/driver/nvidia/version");
    return text.match(/Module.*?\s(\d+\.\d+(?:\.\d+)?)\s/)?.[1];
  } catch {
    return undefined; // another system, or a sandbox that does not show it
  }
}
