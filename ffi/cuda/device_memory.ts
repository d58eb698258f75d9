/** Memory, one stream, graphs and events of a GPU, through the CUDA driver. */
import type { CudaDevice, CudaDriver } from "./driver/driver.ts";
import { RESULT } from "./driver/driver_symbols.ts";
import type { Scope } from "../owned.ts";
import { FreeList, pieceBytes } from "./free_list.ts";
import { type CopyOffsets, DeviceBuffer, DeviceGraph, type DeviceMemory, expectPiece } from "./memory.ts";
import { CudaEvent, openStream } from "./stream.ts";

/** `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`. */
const THREAD_LOCAL = 1;

/** Up to this many bytes the driver copies written data before the call returns, unless the device reads them itself. */
const STAGED_BYTES = 65536;

/** Fraction of a device's memory that may be kept for later allocations. */
const KEPT_SHARE = 1 / 16;

export class CudaMemory implements DeviceMemory {
  readonly #driver: CudaDriver;
  readonly #device: CudaDevice;
  readonly #kept: FreeList | undefined;
  readonly #stream: Deno.PointerValue;
  #recording = false;
  /** Memory freed while work was recorded: the driver frees nothing meanwhile. */
  #freedLater: bigint[] = [];
  readonly scope: Scope;

  /**
   * Retains the device's primary context, makes it current and makes a stream. `reuse`: freed memory is kept for later
   * allocations, up to a sixteenth of the device's. That spares waits, and hides from compute-sanitizer what a kernel
   * touches past a buffer's end.
   *
   * @throws {NativeLibraryError} If another device is open in this thread.
   */
  constructor(driver: CudaDriver, device: CudaDevice, { reuse = false }: { readonly reuse?: boolean } = {}) {
    this.#driver = driver;
    this.#device = device;
    this.#kept = reuse ? new FreeList(KEPT_SHARE * device.memoryBytes) : undefined;
    const { stream, scope } = openStream(driver, device, freerOf(driver, this.#kept));
    this.#stream = stream;
    this.scope = scope;
  }

  get stream(): Deno.PointerValue {
    this.scope.expectOpen();
    return this.#stream;
  }

  /** Waits for the stream and gives everything back: graphs, events, contexts and buffers, the stream, the context. */
  [Symbol.dispose](): void {
    if (this.scope.ended) return;
    this.#refuseWhileRecording("dispose");
    // A failure was reported where results were awaited. The rest must be given back in spite of it.
    this.#driver.symbols.cuStreamSynchronize(this.#stream);
    this.scope[Symbol.dispose]();
  }

  get description(): string {
    const { name, arch, numSms, memoryBytes } = this.#device;
    return `${name}, sm_${arch}, ${numSms} SMs, ${gibibytes(memoryBytes)}`;
  }

  alloc(bytes: number): DeviceBuffer {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new RangeError(`Cannot allocate ${bytes} bytes: expected a whole number from 0`);
    }
    this.#refuseWhileRecording("allocate");
    this.scope.expectOpen();
    const { symbols } = this.#driver, kept = this.#kept;
    const size = kept === undefined || bytes === 0 ? bytes : pieceBytes(bytes);
    const own = size === 0 ? 0n : kept?.take(size) ?? this.#allocate(size);
    // Freeing waits for what still runs. A failed free is not reported: what broke the context is reported by the next
    // call.
    const free = () => {
      if (own === 0n || kept?.put(size, own)) return;
      if (this.#recording) this.#freedLater.push(own);
      else symbols.cuMemFree_v2(own);
    };
    const buffer = new DeviceBuffer(Deno.UnsafePointer.create(own), bytes, free, this.scope);
    if (bytes > 0) {
      const cleared = symbols.cuMemsetD8Async(own, 0, BigInt(bytes), this.stream);
      if (cleared !== RESULT.success) buffer[Symbol.dispose]();
      this.#driver.check("cuMemsetD8Async", cleared);
    }
    return buffer;
  }

  /** Memory of the driver; if it has none left, kept memory is given back first. */
  #allocate(bytes: number): bigint {
    const { symbols } = this.#driver;
    const out = new BigUint64Array(1);
    let result = symbols.cuMemAlloc_v2(out, BigInt(bytes));
    if (result === RESULT.outOfMemory) {
      this.trim();
      result = symbols.cuMemAlloc_v2(out, BigInt(bytes));
    }
    if (result === RESULT.outOfMemory) throw this.#outOfMemory(bytes);
    this.#driver.check("cuMemAlloc", result);
    return out[0]!;
  }

  /** Gives memory back to the device that is kept for later allocations. */
  trim(): void {
    freerOf(this.#driver, this.#kept)();
  }

  write(to: DeviceBuffer, data: ArrayBufferView, offset = 0): void {
    expectPiece(to, offset, data.byteLength);
    this.#refuseWhileRecording("write"); // the graph would read this process's memory when it runs
    if (data.byteLength === 0) return;
    const view = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const result = this.#driver.symbols.cuMemcpyHtoDAsync_v2(
      numberOf(to) + BigInt(offset),
      view,
      BigInt(view.length),
      this.stream,
    );
    this.#driver.check("cuMemcpyHtoDAsync", result);
    // A device that reads this process's memory by itself may do so after the call: the caller may change it, and the
    // runtime collect it.
    if (view.length > STAGED_BYTES || this.#device.readsHost) this.synchronize();
  }

  read(from: DeviceBuffer, bytes = from.bytes, offset = 0): Uint8Array<ArrayBuffer> {
    expectPiece(from, offset, bytes);
    const out = new Uint8Array(bytes);
    this.readInto(from, out, offset);
    this.synchronize();
    return out;
  }

  readInto(from: DeviceBuffer, to: ArrayBufferView, offset = 0): void {
    expectPiece(from, offset, to.byteLength);
    this.#refuseWhileRecording("read");
    if (to.byteLength === 0) return;
    const view = new Uint8Array(to.buffer as ArrayBuffer, to.byteOffset, to.byteLength);
    const at = numberOf(from) + BigInt(offset);
    const result = this.#driver.symbols.cuMemcpyDtoHAsync_v2(view, at, BigInt(view.length), this.stream);
    this.#driver.check("cuMemcpyDtoHAsync", result);
  }

  copy(from: DeviceBuffer, to: DeviceBuffer, bytes: number, at: CopyOffsets = { from: 0, to: 0 }): void {
    expectPiece(from, at.from, bytes);
    expectPiece(to, at.to, bytes);
    if (bytes === 0) return;
    const source = numberOf(from) + BigInt(at.from), target = numberOf(to) + BigInt(at.to);
    const result = this.#driver.symbols.cuMemcpyDtoDAsync_v2(target, source, BigInt(bytes), this.stream);
    this.#driver.check("cuMemcpyDtoDAsync", result);
  }

  synchronize(): void {
    this.#driver.check("cuStreamSynchronize", this.#driver.symbols.cuStreamSynchronize(this.stream));
  }

  capture(work: () => void): DeviceGraph {
    const { symbols } = this.#driver;
    const begun = symbols.cuStreamBeginCapture_v2(this.stream, THREAD_LOCAL);
    this.#driver.check("cuStreamBeginCapture", begun);
    const graph = new BigUint64Array(1), executable = new BigUint64Array(1);
    let ended = RESULT.success as number, recorded: Deno.PointerValue = null;
    this.#recording = true;
    const end = () => { // also where `work` failed, or the stream stays captured
      this.#recording = false;
      ended = symbols.cuStreamEndCapture(this.stream, graph);
      recorded = Deno.UnsafePointer.create(graph[0]!);
      for (const address of this.#freedLater.splice(0)) symbols.cuMemFree_v2(address);
    };
    try {
      work();
    } catch (error) {
      end();
      if (recorded !== null) symbols.cuGraphDestroy(recorded);
      throw error;
    }
    end();
    this.#driver.check("cuStreamEndCapture", ended);
    const made = symbols.cuGraphInstantiateWithFlags(executable, recorded, 0n);
    symbols.cuGraphDestroy(recorded);
    this.#driver.check("cuGraphInstantiate", made);
    return new DeviceGraph(Deno.UnsafePointer.create(executable[0]!), {
      launch: (handle) => this.#driver.check("cuGraphLaunch", symbols.cuGraphLaunch(handle, this.stream)),
      free: destroyerOf(this.#driver),
      work,
    }, this.scope);
  }

  /** A mark in the stream's work, to take times with. */
  event(): CudaEvent {
    return new CudaEvent(this.#driver, this.stream, this.scope);
  }

  /** Milliseconds that `work` takes on the device, measured by events around it; waits for it. */
  time(work: () => void): number {
    using begun = this.event();
    using ended = this.event();
    begun.record();
    work();
    ended.record();
    ended.synchronize();
    return ended.since(begun);
  }

  #refuseWhileRecording(what: string): void {
    if (this.#recording) throw new Error(`Cannot ${what} device memory while work is recorded`);
  }

  #outOfMemory(bytes: number): RangeError {
    const free = new BigUint64Array(1), total = new BigUint64Array(1);
    const known = this.#driver.symbols.cuMemGetInfo_v2(free, total) === RESULT.success;
    const left = known
      ? `${gibibytes(Number(free[0]))} free of ${gibibytes(Number(total[0]))}`
      : "no more than that";
    const wanted = gibibytes(bytes), { name } = this.#device;
    return new RangeError(
      `Cannot allocate ${wanted} on ${name}: found ${left}; use a smaller model, batch or context`,
    );
  }
}

/** What gives a graph back. It must not hold the work that the graph's owner holds, which may hold that owner. */
function destroyerOf({ symbols }: CudaDriver): (handle: Deno.PointerValue) => void {
  return (handle) => void symbols.cuGraphExecDestroy(handle);
}

/** What gives back the memory that is kept. It must not hold the stream's scope. */
function freerOf({ symbols }: CudaDriver, kept: FreeList | undefined): () => void {
  return () => {
    for (const address of kept?.clear() ?? []) symbols.cuMemFree_v2(address);
  };
}

function numberOf(buffer: DeviceBuffer): bigint {
  return BigInt(Deno.UnsafePointer.value(buffer.address));
}

function gibibytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 3 : 1)} GiB`;
}
