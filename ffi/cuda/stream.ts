/** A stream of a device with the primary context that it lives in, and events on it. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { Owned, Scope } from "../owned.ts";
import type { CudaDevice, CudaDriver } from "./driver/driver.ts";

/** `CU_STREAM_NON_BLOCKING`: no order with the default stream. */
const NON_BLOCKING = 1;

/** The device whose context is current in this thread, and how many streams need it to be. */
const current = { ordinal: 0, streams: 0 };

/**
 * Retains a device's primary context, makes it current in this thread, and makes a stream.
 *
 * @param beforeEnd Frees the remaining memory, just before the stream is destroyed. It must not hold the scope.
 * @returns The stream (`CUstream`), and its scope: when that ends, the stream is destroyed and the context released.
 * @throws {NativeLibraryError} If another device has a stream in this thread.
 * @throws {CudaError} If the driver cannot.
 */
export function openStream(
  driver: CudaDriver,
  device: CudaDevice,
  beforeEnd: () => void,
): { stream: Deno.PointerValue; scope: Scope } {
  const { ordinal } = device;
  if (current.streams > 0 && current.ordinal !== ordinal) {
    throw new NativeLibraryError(
      `Cannot open CUDA device ${ordinal}: found device ${current.ordinal} open in this thread, expected one a thread; ` +
        "dispose its backend first, or open the other in a Worker",
    );
  }
  const { symbols } = driver;
  const out = new BigUint64Array(1), handle = new Int32Array(1);
  driver.check("cuDeviceGet", symbols.cuDeviceGet(handle, ordinal));
  const deviceHandle = handle[0]!;
  driver.check("cuDevicePrimaryCtxRetain", symbols.cuDevicePrimaryCtxRetain(out, deviceHandle));
  Object.assign(current, { ordinal, streams: current.streams + 1 });
  try {
    driver.check("cuCtxSetCurrent", symbols.cuCtxSetCurrent(Deno.UnsafePointer.create(out[0]!)));
    driver.check("cuStreamCreate", symbols.cuStreamCreate(out, NON_BLOCKING));
  } catch (error) {
    leave(driver, deviceHandle);
    throw error;
  }
  const stream = Deno.UnsafePointer.create(out[0]!);
  const gone = `Cannot use CUDA device ${ordinal} (${device.name}): its memory and stream were disposed`;
  const scope = new Scope(gone, () => {
    beforeEnd();
    symbols.cuStreamDestroy_v2(stream);
    leave(driver, deviceHandle);
  });
  return { stream, scope };
}

/** Releases the context. A release does not take it from the thread, where the last one has destroyed it. */
function leave({ symbols }: CudaDriver, device: number): void {
  current.streams--;
  if (current.streams === 0) symbols.cuCtxSetCurrent(null);
  symbols.cuDevicePrimaryCtxRelease_v2(device);
}

/** A point in a stream's work whose time is taken. Owned: freed by `using`, with the stream, or once there is no reference to it. */
export class CudaEvent extends Owned<Deno.PointerValue> {
  readonly #driver: CudaDriver;
  readonly #stream: Deno.PointerValue;

  constructor(driver: CudaDriver, stream: Deno.PointerValue, scope: Scope) {
    scope.expectOpen();
    const { symbols } = driver, out = new BigUint64Array(1);
    driver.check("cuEventCreate", symbols.cuEventCreate(out, 0));
    const free = (event: Deno.PointerValue) => void symbols.cuEventDestroy_v2(event);
    super("Cannot use an event: it was freed", Deno.UnsafePointer.create(out[0]!), free, scope);
    this.#driver = driver;
    this.#stream = stream;
  }

  /** Marks the end of the work that is enqueued so far. @throws {CudaError} If the driver cannot. */
  record(): void {
    const { symbols } = this.#driver;
    this.#driver.check("cuEventRecord", symbols.cuEventRecord(this.value, this.#stream));
  }

  /** Waits until the work before it is done. @throws {CudaError} If that work failed. */
  synchronize(): void {
    const { symbols } = this.#driver;
    this.#driver.check("cuEventSynchronize", symbols.cuEventSynchronize(this.value));
  }

  /** Milliseconds from an earlier event to this one; both must have been reached. @throws {CudaError} If they were not. */
  since(earlier: CudaEvent): number {
    const { symbols } = this.#driver, ms = new Float32Array(1);
    const result = symbols.cuEventElapsedTime(ms, earlier.value, this.value);
    this.#driver.check("cuEventElapsedTime", result);
    return ms[0]!;
  }
}
