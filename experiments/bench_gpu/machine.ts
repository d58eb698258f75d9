/** What figures of a GPU are worth nothing without: the driver's release, clocks, power. */
import type { CudaDevice, CudaDriver } from "../../ffi/cuda/mod.ts";

/** A driver, and the device at the time. */
export interface DriverState {
  /** CUDA version that the driver serves, such as "13.0". */
  readonly cuda: string;
  /** The driver's release, such as "580.65.06"; undefined where nothing says it. */
  readonly release: string | undefined;
  /** What nvidia-smi says of the device, by its own names; empty where it is not there. */
  readonly state: { readonly [name: string]: string };
}

/** What nvidia-smi is asked. Nothing is set. */
const ASKED = [
  "driver_version",
  "clocks.sm",
  "clocks.mem",
  "clocks.max.sm",
  "clocks.max.mem",
  "power.limit",
  "temperature.gpu",
  "ecc.mode.current",
  "mig.mode.current",
  "compute_mode",
];

/** Reads one answer of nvidia-smi, in `--format=csv,noheader`. */
export function readState(answer: string): { readonly [name: string]: string } {
  const values = answer.trim().split("\n")[0]!.split(",").map((value) => value.trim());
  if (values.length !== ASKED.length) return {};
  return Object.fromEntries(
    ASKED.flatMap((name, i) => /^\[|^N\/A|^$/.test(values[i]!) ? [] : [[name, values[i]!]]),
  );
}

/** Asks the driver and nvidia-smi, where it is there. */
export async function describeDriver(driver: CudaDriver, device: CudaDevice): Promise<DriverState> {
  const cuda = `${Math.floor(driver.version / 1000)}.${Math.floor(driver.version % 1000 / 10)}`;
  const state = await askSmi(driver.busId(device.ordinal));
  return { cuda, release: state.driver_version ?? await releaseOfModule(), state };
}

async function askSmi(busId: string): Promise<{ readonly [name: string]: string }> {
  try {
    const { success, stdout } = await new Deno.Command("nvidia-smi", {
      args: ["-i", busId, `--query-gpu=${ASKED.join(",")}`, "--format=csv,noheader"],
      stdin: "null",
      stderr: "null",
    }).output();
    return success ? readState(new TextDecoder().decode(stdout)) : {};
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
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
