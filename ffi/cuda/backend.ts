/** The backend that computes with the CUDA library, on tensors in a device's memory. */
import type { Backend } from "../../lib/backend.ts";
import type { BatchDecisions, RecordedWork } from "../../lib/batch_ops.ts";
import { byteSize, type DType } from "../../lib/dtype.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import type { LayerState } from "../../lib/filter/layer.ts";
import {
  countOf,
  emptyTensor,
  expectHostTensor,
  expectTensor,
  type HostTensor,
  type Tensor,
} from "../../lib/tensor.ts";
import type { Place } from "../library/abi.ts";
import {
  expectScan,
  expectState,
  NUM_COLUMNS,
  scanArgs,
  specArgs,
  STATE_PARTS,
  statesArgs,
  storeColumns,
} from "../filter.ts";
import { keptRows, NativeBackend } from "../native_backend.ts";
import type { CudaContext } from "./context.ts";
import { decodeOps } from "./decode.ts";
import { bufferOf, type DeviceBuffer, type DeviceMemory, type DeviceTensor, placeAt } from "./memory.ts";

/** Bytes that pieces of one buffer begin at a multiple of. */
const ALIGNMENT = 256;

/**
 * {@linkcode Backend} over the CUDA library. Work is enqueued on one stream; reading a tensor waits for it, and throws
 * what a kernel found wrong since.
 */
export class CudaBackend extends NativeBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "cuda";
  /** See {@linkcode Backend.givesShares}. */
  override readonly givesShares = true;
  /**
   * Memory and stream.
   * @internal
   */
  readonly memory: DeviceMemory;
  /** See {@linkcode Backend.products}. */
  products?: NonNullable<Backend["products"]>;
  readonly #cuda: CudaContext;

  /** Use {@linkcode openCuda}. Takes the context and the memory over. */
  constructor(context: CudaContext, memory: DeviceMemory) {
    super(context);
    this.#cuda = context;
    this.memory = memory;
    this.adopt(decodeOps(context, this));
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return [`cuda: ${this.memory.description}`, this.context.description, ...this.#cuda.inUse].join(", ");
  }

  /** See {@linkcode Backend.alloc}. */
  override alloc(dtype: DType, shape: readonly number[]): DeviceTensor {
    return { dtype, shape, buffer: this.memory.alloc(byteSize(dtype, countOf(shape))) };
  }

  /** See {@linkcode Backend.upload}. */
  override upload(tensor: HostTensor): DeviceTensor {
    const { dtype, shape, data } = expectHostTensor(tensor);
    const buffer = this.memory.alloc(data.byteLength);
    this.memory.write(buffer, data);
    return { dtype, shape, buffer };
  }

  /** See {@linkcode Backend.read}. */
  override read(tensor: Tensor): HostTensor {
    const { dtype, shape } = tensor;
    const out = emptyTensor(dtype, shape);
    const { buffer, offset = 0 } = bufferOf(tensor);
    this.memory.readInto(buffer, out.data, offset);
    this.#cuda.synchronize();
    return out;
  }

  /** See {@linkcode Backend.resizeRows}. */
  override resizeRows(tensor: Tensor, rows: number): DeviceTensor {
    const out = this.alloc(tensor.dtype, [rows, ...tensor.shape.slice(1)]);
    const bytes = Math.min(byteSize(tensor.dtype, countOf(tensor.shape)), out.buffer.bytes);
    const { buffer, offset = 0 } = bufferOf(tensor);
    this.memory.copy(buffer, out.buffer, bytes, { from: offset, to: 0 });
    return out;
  }

  /**
   * Whether prefill of f16 and bf16 keys uses wgmma and TMA on sm_90, instead of the mma.sync of all devices. At
   * first only where `test:gpu` has passed: no card has run them so far.
   *
   * @returns Whether it does now: false where the device or the build has it not.
   */
  useWgmma(use: boolean): boolean {
    return this.#cuda.useWgmma(use);
  }

  /**
   * Whether kernels begin before the one ahead of them has ended, for which they wait themselves (programmatic dependent
   * launch, from sm_90 on): short kernels then wait less. At first only where `test:gpu` has passed: no card has
   * run it so far. Recorded work stays as it was recorded.
   *
   * @returns Whether they are now: false where the device, the driver or the build has it not.
   * @throws {NativeLibraryError} If two kernels that were recorded so do not run; they are off then.
   */
  useDependentLaunch(use: boolean): boolean {
    const uses = this.#cuda.useDependentLaunch(use);
    if (uses) this.#launchRecordedPair();
    return uses;
  }

  /**
   * Whether cuBLASLt multiplies factors that are rounded to bf16, instead of in parts as accurate as f32: a third of the
   * products. Up to 16 rows are exact, and up to 64 by quantised weights.
   *
   * @returns Whether it does now: false without cuBLASLt.
   */
  useBf16(use: boolean): boolean {
    const uses = this.#cuda.useBf16(use);
    if (uses) this.products = "bf16";
    else delete this.products;
    return uses;
  }

  /** Runs two from a graph, which some drivers refuse. */
  #launchRecordedPair(): void {
    const x = this.alloc("f32", [1, 2]), pair = () => [1, 2].forEach(() => this.swiglu(x, x, x));
    try {
      pair(); // loads the kernel, which no recording allows
      using graph = this.memory.capture(pair);
      graph.launch();
      this.synchronize();
    } catch (error) {
      this.#cuda.useDependentLaunch(false);
      const reason = `two recorded kernels do not run (${
        (error as Error).message
      }); set dependentLaunch to false, or TOKENFILTER_GPU_TESTED to none`;
      throw new NativeLibraryError(`Cannot use dependent launches on ${this.memory.description}: ${reason}`);
    } finally {
      this.free(x);
    }
  }

  /** See {@linkcode Backend.synchronize}. @throws {KernelError} If a kernel found something wrong since the last time. */
  synchronize(): void {
    this.#cuda.synchronize();
  }

  /** See {@linkcode Backend.free}. */
  override free(tensor: Tensor): void {
    bufferOf(tensor).buffer[Symbol.dispose]();
  }

  /**
   * Waits for the device and gives everything back: the library's context, all memory, the stream and the driver's
   * context. Any use afterwards, of a tensor too, throws an `Error`. Once more does nothing.
   */
  override [Symbol.dispose](): void {
    this.memory[Symbol.dispose](); // the library's context ends with it
  }

  /** See {@linkcode Backend.add}. */
  override add(x: Tensor, delta: Tensor, only?: BatchDecisions): void {
    const [rows, cols] = expectTensor("x", x, "f32", [-1, -1]);
    expectTensor("delta", delta, "f32", x.shape);
    this.context.call("tkf_rows_add_kept", { x, delta, rows, cols, ...keptRows(only) });
  }

  /** See {@linkcode Backend.record}. */
  record(work: () => void): RecordedWork {
    return this.memory.capture(work);
  }

  /** See {@linkcode Backend.kvFilterScan}. */
  override readonly kvFilterScan: Backend["kvFilterScan"] = (spec, state, input, start, count, output) => {
    const tensors = expectScan(spec, state, input, start, count, output);
    using pack = new Pack(this.memory, {
      ...stateParts(state),
      keep: count,
      columns: 8 * NUM_COLUMNS * count,
      taken: 8,
    });
    const rowsOf = (tensor: DeviceTensor): DeviceTensor => {
      const { dtype, shape: [, ...row], offset = 0 } = tensor,
        skipped = start * byteSize(dtype, countOf(row));
      return { ...tensor, shape: [count, ...row], offset: offset + skipped };
    };
    // The kernels take only keys and values of f32.
    const widened: Tensor[] = [];
    const rows = (tensor: Tensor) => {
      const own = rowsOf(bufferOf(tensor));
      if (own.dtype === "f32") return own;
      const wide = this.dequantize(own);
      widened.push(wide);
      return wide;
    };
    const { keep, columns, taken, ...states } = pack.places;
    const args = scanArgs(spec, statesArgs(states), tensors, count, rows, { keep, columns, taken });
    this.context.call("tkf_filter_scan", { ...args, kv_dtype: "f32" });
    widened.forEach((tensor) => this.free(tensor));
    const parts = pack.read();
    storeState(state, parts); // up to a token that is not finite, which is told of below
    const done = Number(new DataView(parts.taken.buffer, parts.taken.byteOffset).getBigInt64(0, true));
    output.keep.set(parts.keep.subarray(0, done), start);
    const found = new Float64Array(parts.columns.buffer, parts.columns.byteOffset, NUM_COLUMNS * count);
    storeColumns(found, count, done, output, start);
    this.#cuda.synchronize();
    return done;
  };

  /** See {@linkcode Backend.kvFilterObserve}. */
  override readonly kvFilterObserve: Backend["kvFilterObserve"] = (spec, state, y) => {
    expectState(spec, state);
    using pack = new Pack(this.memory, { ...stateParts(state), y });
    const { y: outcomes, ...states } = pack.places;
    const args = { spec: specArgs(spec, 0), states: statesArgs(states), y: outcomes, count: y.length };
    this.context.call("tkf_filter_observe", args);
    const parts = pack.read();
    this.#cuda.synchronize();
    storeState(state, parts);
  };
}

/** Several arrays in one device buffer, so that they cross in one copy; a number, behind all arrays, is the bytes of one to fill. */
class Pack<Name extends string> implements Disposable {
  readonly places: Readonly<Record<Name, Place>>;
  readonly #memory: DeviceMemory;
  readonly #buffer: DeviceBuffer;
  readonly #parts: [name: Name, offset: number, bytes: number][] = [];

  constructor(memory: DeviceMemory, parts: Readonly<Record<Name, ArrayBufferView | number>>) {
    const entries = Object.entries(parts) as [Name, ArrayBufferView | number][];
    let total = 0, sent = 0;
    for (const [name, part] of entries) {
      const bytes = typeof part === "number" ? part : part.byteLength;
      this.#parts.push([name, total, bytes]);
      total += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
      if (typeof part !== "number") sent = total;
    }
    this.#memory = memory;
    const buffer = this.#buffer = memory.alloc(total);
    const host = new Uint8Array(sent); // the zeros of the part to be filled
    for (const [i, [, part]] of entries.entries()) {
      if (typeof part === "number") continue;
      host.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), this.#parts[i]![1]);
    }
    memory.write(buffer, host);
    this.places = this.#each((offset, bytes) => placeAt(buffer, offset, bytes));
  }

  read(): Readonly<Record<Name, Uint8Array<ArrayBuffer>>> {
    const all = this.#memory.read(this.#buffer);
    return this.#each((offset, bytes) => all.subarray(offset, offset + bytes));
  }

  #each<T>(of: (offset: number, bytes: number) => T): Record<Name, T> {
    const all = this.#parts.map(([name, offset, bytes]) => [name, of(offset, bytes)]);
    return Object.fromEntries(all) as Record<Name, T>;
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

type StateParts<T> = Record<typeof STATE_PARTS[number], T>;

function stateParts(state: LayerState): StateParts<ArrayBufferView> {
  const { anchorK, anchorV, numbers, scores, learned } = state;
  return { anchorK, anchorV, numbers, scores, learned };
}

function storeState(state: LayerState, parts: Readonly<StateParts<Uint8Array>>): void {
  for (const name of STATE_PARTS) {
    const { buffer, byteOffset, byteLength } = state[name];
    new Uint8Array(buffer, byteOffset, byteLength).set(parts[name]);
  }
}
