/** The CUDA driver through `Deno.dlopen`: its version, the devices, and errors by name. */
import { NativeLibraryError } from "../../../lib/errors.ts";
import {
  ATTRIBUTE,
  DRIVER_SYMBOLS,
  type DriverSymbols,
  EXCLUSIVE_PROCESS,
  RESULT,
} from "./driver_symbols.ts";

/** Where the driver's library is looked for, unless `TOKENFILTER_CUDA_DRIVER` names one. */
const LIBRARY = "libcuda.so.1";
/** CUDA version of the oldest driver that has all functions used here, as `cuDriverGetVersion` numbers it: 12.0. */
const OLDEST_VERSION = 12000;
/** Oldest device, 10 * major + minor of its compute capability. */
const OLDEST_ARCH = 80;

/** A call of the CUDA driver failed. */
export class CudaError extends Error {
  /** The class's name. */
  override readonly name = "CudaError";
  /** The driver's number, `CUresult`. */
  readonly code: number;

  /** Made where a result comes back. @param call the driver's function @param code its result @param message what it means */
  constructor(call: string, code: number, message: string) {
    super(`Cannot run ${call}: ${message}`);
    this.code = code;
  }
}

export interface CudaDevice {
  /** 0-based number, after `CUDA_VISIBLE_DEVICES`. */
  readonly ordinal: number;
  readonly name: string;
  /** 10 * major + minor of the compute capability: 90 for sm_90. */
  readonly arch: number;
  readonly numSms: number;
  readonly memoryBytes: number;
  readonly l2Bytes: number;
  readonly clockMHz: number;
  /** Whether one process at a time may use it. */
  readonly exclusive: boolean;
  /** Whether it reads this process's memory by itself, through the host's page tables, as of GH200 and GB10. */
  readonly readsHost: boolean;
}

const opened = new Map<string, CudaDriver>();

/**
 * Opens the CUDA driver; a library once open stays open.
 *
 * @param path `TOKENFILTER_CUDA_DRIVER`, else the system's `libcuda.so.1`, by default.
 * @throws {NativeLibraryError} If there is no driver, it has no device, or it is too old.
 */
export function openDriver(
  path: string = Deno.env.get("TOKENFILTER_CUDA_DRIVER") || LIBRARY,
): CudaDriver {
  const known = opened.get(path);
  if (known !== undefined) return known;
  let symbols: DriverSymbols;
  try {
    symbols = Deno.dlopen(path, DRIVER_SYMBOLS).symbols;
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    const version = versionOf(path); // an old driver lacks functions, and is there all the same
    if (version !== undefined && version < OLDEST_VERSION) throw tooOld(version, OLDEST_VERSION);
    const reason = error.message.replaceAll("Could not open library: ", "");
    throw new NativeLibraryError(
      `Cannot use CUDA: found no driver (${reason}), expected "${path}"; install NVIDIA's driver, or use --backend cpu`,
      { cause: error },
    );
  }
  const driver = new CudaDriver(symbols);
  opened.set(path, driver);
  return driver;
}

/** An open driver with at least one device. */
export class CudaDriver {
  readonly symbols: DriverSymbols;
  /** CUDA version that it serves: 1000 * major + 10 * minor. */
  readonly version: number;
  readonly devices: readonly CudaDevice[];

  constructor(symbols: DriverSymbols) {
    this.symbols = symbols;
    const number = new Int32Array(1);
    const init = symbols.cuInit(0);
    if (init === RESULT.noDevice) throw noDevice();
    if (init !== RESULT.success) {
      throw new NativeLibraryError(
        `Cannot use CUDA: the driver does not start (${this.describe(init)}); use --backend cpu`,
      );
    }
    this.check("cuDriverGetVersion", symbols.cuDriverGetVersion(number));
    this.version = number[0]!;
    this.expectVersion(OLDEST_VERSION);
    this.check("cuDeviceGetCount", symbols.cuDeviceGetCount(number));
    if (number[0] === 0) throw noDevice();
    this.devices = Array.from({ length: number[0]! }, (_, ordinal) => this.#describeDevice(ordinal));
  }

  /** @throws {NativeLibraryError} If the driver serves an older CUDA version than this one. */
  expectVersion(version: number): void {
    if (this.version < version) throw tooOld(this.version, version);
  }

  /** Checks a result. @throws {CudaError} If it is not success. */
  check(call: string, result: number): void {
    if (result !== RESULT.success) throw new CudaError(call, result, this.describe(result));
  }

  describe(result: number): string {
    const word = (ask: (code: number, out: BigUint64Array<ArrayBuffer>) => number) => {
      const out = new BigUint64Array(1);
      const pointer = ask(result, out) === RESULT.success ? Deno.UnsafePointer.create(out[0]!) : null;
      return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
    };
    const name = word(this.symbols.cuGetErrorName), meaning = word(this.symbols.cuGetErrorString);
    return name === "" ? `unknown result ${result}` : `${name}, ${meaning}`;
  }

  /** @throws {NativeLibraryError} If there is no device of this number, or it is too old. */
  device(ordinal: number): CudaDevice {
    const device = this.devices[ordinal];
    if (device === undefined) {
      throw new NativeLibraryError(
        `Cannot use CUDA device ${ordinal}: found ${this.devices.length}, numbered from 0`,
      );
    }
    if (device.arch < OLDEST_ARCH) {
      throw new NativeLibraryError(
        `Cannot use CUDA device ${ordinal} (${device.name}): found sm_${device.arch}, expected sm_${OLDEST_ARCH} or ` +
          "later; use --backend cpu",
      );
    }
    return device;
  }

  /** Where a device sits, such as "00000000:1B:00.0": its name to nvidia-smi. */
  busId(ordinal: number): string {
    const handle = new Int32Array(1), id = new Uint8Array(64);
    this.check("cuDeviceGet", this.symbols.cuDeviceGet(handle, ordinal));
    this.check("cuDeviceGetPCIBusId", this.symbols.cuDeviceGetPCIBusId(id, id.length, handle[0]!));
    return text(id);
  }

  #describeDevice(ordinal: number): CudaDevice {
    const { symbols } = this;
    const handle = new Int32Array(1), value = new Int32Array(1), bytes = new BigUint64Array(1);
    this.check("cuDeviceGet", symbols.cuDeviceGet(handle, ordinal));
    const name = new Uint8Array(256);
    this.check("cuDeviceGetName", symbols.cuDeviceGetName(name, name.length, handle[0]!));
    this.check("cuDeviceTotalMem", symbols.cuDeviceTotalMem_v2(bytes, handle[0]!));
    const attribute = (which: keyof typeof ATTRIBUTE) => {
      const result = symbols.cuDeviceGetAttribute(value, ATTRIBUTE[which], handle[0]!);
      this.check("cuDeviceGetAttribute", result);
      return value[0]!;
    };
    return {
      ordinal,
      name: text(name),
      arch: 10 * attribute("major") + attribute("minor"),
      numSms: attribute("numSms"),
      memoryBytes: Number(bytes[0]),
      l2Bytes: attribute("l2Bytes"),
      clockMHz: attribute("clockKHz") / 1000,
      exclusive: attribute("computeMode") === EXCLUSIVE_PROCESS,
      readsHost: attribute("hostPageTables") !== 0,
    };
  }
}

/** The text before the first zero byte. */
function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

function noDevice(): NativeLibraryError {
  return new NativeLibraryError(
    "Cannot use CUDA: found a driver and no device, expected at least one (see CUDA_VISIBLE_DEVICES); " +
      "use --backend cpu",
  );
}

/** The CUDA version that the driver in a library supports; undefined where there is none. */
function versionOf(path: string): number | undefined {
  try {
    const { cuDriverGetVersion } = DRIVER_SYMBOLS, number = new Int32Array(1);
    const { symbols } = Deno.dlopen(path, { cuDriverGetVersion });
    return symbols.cuDriverGetVersion(number) === RESULT.success ? number[0] : undefined;
  } catch {
    return undefined; // the caller reports the reason
  }
}

function tooOld(found: number, expected: number): NativeLibraryError {
  const [own, needed] = [found, expected].map(versionName);
  return new NativeLibraryError(
    `Cannot use CUDA: found a driver for CUDA ${own}, expected ${needed} or later; ` +
      "update NVIDIA's driver, or use --backend cpu",
  );
}

function versionName(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor(version % 1000 / 10)}`;
}
