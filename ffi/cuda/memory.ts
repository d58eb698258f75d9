/** Device memory of the CUDA backend: the driver's. */
import type { Tensor } from "../../lib/tensor.ts";
import type { Place } from "../library/abi.ts";
import { Owned, type Scope } from "../owned.ts";

/** @internal A tensor in device memory, from a byte of a buffer on. */
export interface DeviceTensor extends Tensor {
  readonly buffer: DeviceBuffer;
  /** Byte of the buffer at which the tensor begins, 0 by default. */
  readonly offset?: number;
}

/** A tensor as one of a device. @throws {TypeError} If it is of another backend. */
export function bufferOf(tensor: Tensor): DeviceTensor {
  if ((tensor as Partial<DeviceTensor>).buffer === undefined) {
    throw new TypeError("Cannot use a tensor of this process on a device: upload it with its backend");
  }
  return tensor as DeviceTensor;
}

/** Bytes at which a copy begins. */
export interface CopyOffsets {
  readonly from: number;
  readonly to: number;
}

/**
 * A stream of work on one device, and its memory. All copies are in the stream's order. Owned: `using` gives back all
 * that is left on it and the stream itself; where it is not, it ends once there is no reference to it or anything made with it.
 * Any use afterwards throws an `Error`.
 */
export interface DeviceMemory extends Disposable {
  /** One line about the device. */
  readonly description: string;
  /** The stream that kernels are launched on (`CUstream`). @throws {Error} After it was disposed. */
  readonly stream: Deno.PointerValue;
  /** Objects made here end before the stream does. */
  readonly scope: Scope;
  /** Zeroed memory. @throws {RangeError} If there is not enough left; the message contains the rest. */
  alloc(bytes: number): DeviceBuffer;
  /** Copies from this process into a buffer, from its byte `offset` on. Returns when `data` may be changed again. */
  write(to: DeviceBuffer, data: ArrayBufferView, offset?: number): void;
  /** Waits for the stream and copies `bytes` bytes from byte `offset` of a buffer. */
  read(from: DeviceBuffer, bytes?: number, offset?: number): Uint8Array<ArrayBuffer>;
  /** Copies from byte `offset` of a buffer into `to`, which has the values once somebody has waited for the stream. */
  readInto(from: DeviceBuffer, to: ArrayBufferView, offset?: number): void;
  /** Copies on the device, from and to the given bytes on, 0 by default. */
  copy(from: DeviceBuffer, to: DeviceBuffer, bytes: number, offsets?: CopyOffsets): void;
  synchronize(): void;
  /** Gives memory back to the device that is kept for later allocations. */
  trim(): void;
  /**
   * Records what `work` enqueues, without running it, to be run any number of times. `work` must not
   * wait, allocate, write or read: it throws. Memory that it frees is freed when it has ended.
   */
  capture(work: () => void): DeviceGraph;
}

/** Checks that a piece lies in a buffer. @throws {RangeError} If it does not. */
export function expectPiece(buffer: DeviceBuffer, offset: number, bytes: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes) && offset >= 0 && bytes >= 0;
  if (!whole || offset + bytes > buffer.bytes) {
    throw new RangeError(
      `Cannot use bytes ${offset} to ${offset + bytes}: found a device buffer of ${buffer.bytes} bytes`,
    );
  }
}

/** A part of a buffer as ops of the library take it. */
export function placeAt(buffer: DeviceBuffer, offset: number, bytes: number): Place {
  const { address } = buffer; // throws where it was freed
  return bytes === 0
    ? { address: 0, bytes }
    : { address: Number(Deno.UnsafePointer.value(address)) + offset, bytes };
}

/** A piece of device memory. Owned: freed by `using`, or some time after the last reference to it is gone. */
export class DeviceBuffer extends Owned<Deno.PointerValue> {
  readonly bytes: number;

  /** @param free Gives the memory back; it must not hold the buffer. @param scope Of the stream that it is used on. */
  constructor(
    address: Deno.PointerValue,
    bytes: number,
    free: (address: Deno.PointerValue) => void,
    scope: Scope,
  ) {
    super("Cannot use device memory: it was freed", address, free, scope);
    this.bytes = bytes;
  }

  /** Where it lies; NULL where it has no bytes. @throws {Error} After it was freed. */
  get address(): Deno.PointerValue {
    return this.value;
  }
}

/** Work that was recorded once, to be run again and again with one call. */
export class DeviceGraph extends Owned<Deno.PointerValue> {
  /** The recorded work: it keeps the tensors alive whose addresses are in the graph. */
  readonly work: () => void;
  readonly #launch: (handle: Deno.PointerValue) => void;

  /** @param free Gives the graph back; it must not hold the owner. @param scope Of the stream that it runs on. */
  constructor(
    handle: Deno.PointerValue,
    { launch, free, work }: {
      readonly launch: (handle: Deno.PointerValue) => void;
      readonly free: (handle: Deno.PointerValue) => void;
      readonly work: () => void;
    },
    scope: Scope,
  ) {
    super("Cannot run recorded work: it was freed", handle, free, scope);
    this.#launch = launch;
    this.work = work;
  }

  launch(): void {
    this.#launch(this.value);
  }
}
