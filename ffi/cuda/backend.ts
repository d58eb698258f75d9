/** The backend that computes with the CUDA library, on tensors in a device's memory. */
import type { Backend } from "../../lib/backend.ts";
import type { BatchDecisions, BatchOps, RecordedWork } from "../../lib/batch_ops.ts";
import { byteSize, type DType } from "../../lib/dtype.ts";
import type { LayerState } from "../../lib/filter/layer.ts";
import { countOf, emptyTensor, type HostTensor, type Tensor } from "../../lib/tensor.ts";
import {
  callObserve,
  callScan,
  expectScan,
  expectState,
  NUM_COLUMNS,
  STATE_PARTS,
  storeColumns,
} from "../filter.ts";
import { NativeBackend } from "../native_backend.ts";
import type { Buffer } from "../symbols.ts";
import type { CudaContext } from "./context.ts";
import { type DecodeOps, decodeOps } from "./decode.ts";
import { addressAt, type DeviceBuffer, type DeviceMemory } from "./memory.ts";

/** A tensor in device memory, from a byte of a buffer on. */
export interface DeviceTensor extends Tensor {
  /** The memory. */
  readonly buffer: DeviceBuffer;
  /** Byte of the buffer at which the tensor begins, 0 by default. */
  readonly offset?: number;
}

/** Bytes that pieces of one buffer begin at a multiple of. */
const ALIGNMENT = 256;

/**
 * {@linkcode Backend} over the CUDA library. Work is enqueued on one stream; reading a tensor waits for it, and throws
 * what a kernel found wrong since.
 */
export class CudaBackend extends NativeBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "cuda";
  /**
   * Memory and stream.
   * @internal
   */
  readonly memory: DeviceMemory;
  /** Over the calls of `tokenfilter_cuda.h`. */
  protected override readonly batch: BatchOps;
  readonly #decode: DecodeOps;
  readonly #cuda: CudaContext;

  /** Use {@linkcode openCuda}. Takes the context and the memory over. */
  constructor(context: CudaContext, memory: DeviceMemory) {
    super(context);
    this.#cuda = context;
    this.memory = memory;
    this.batch = this.#decode = decodeOps(context, this);
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return `cuda: ${this.memory.description}, ${this.context.description}`;
  }

  /** See {@linkcode Backend.alloc}. */
  override alloc(dtype: DType, shape: readonly number[]): DeviceTensor {
    return { dtype, shape, buffer: this.memory.alloc(byteSize(dtype, countOf(shape))) };
  }

  /** See {@linkcode Backend.upload}. */
  override upload(tensor: HostTensor): DeviceTensor {
    const { dtype, shape, data } = tensor;
    const buffer = this.memory.alloc(data.byteLength);
    this.memory.write(buffer, data);
    return { dtype, shape, buffer };
  }

  /** See {@linkcode Backend.read}. */
  override read(tensor: Tensor): HostTensor {
    const { dtype, shape } = tensor;
    const out = emptyTensor(dtype, shape);
    const bytes = this.memory.read(bufferOf(tensor), out.data.byteLength, offsetOf(tensor));
    this.#cuda.synchronize();
    new Uint8Array(out.data.buffer).set(bytes);
    return out;
  }

  /** See {@linkcode Backend.resizeRows}. */
  override resizeRows(tensor: Tensor, rows: number): DeviceTensor {
    const out = this.alloc(tensor.dtype, [rows, ...tensor.shape.slice(1)]);
    const bytes = Math.min(byteSize(tensor.dtype, countOf(tensor.shape)), out.buffer.bytes);
    this.memory.copy(bufferOf(tensor), out.buffer, bytes, { from: offsetOf(tensor), to: 0 });
    return out;
  }

  /**
   * Whether prefill of f16 and bf16 keys uses wgmma and TMA on sm_90, instead of the mma.sync of all devices; it does
   * not at first. So far the emulator alone has run them: `deno task test:gpu` tests them on the GPU at hand.
   *
   * @returns Whether it does now: false where the device or the build has it not.
   */
  useWgmma(use: boolean): boolean {
    return this.#cuda.useWgmma(use);
  }

  /** See {@linkcode Backend.synchronize}. @throws {KernelError} If a kernel found something wrong since the last time. */
  synchronize(): void {
    this.#cuda.synchronize();
  }

  /** See {@linkcode Backend.free}. */
  override free(tensor: Tensor): void {
    bufferOf(tensor)[Symbol.dispose]();
  }

  /**
   * Waits for the device and gives everything back: the library's context, all memory, the stream and the driver's
   * context. Any use afterwards, of a tensor too, throws an `Error`. Once more does nothing.
   */
  override [Symbol.dispose](): void {
    this.memory[Symbol.dispose](); // the library's context ends with it
  }

  /** See {@linkcode Backend.linear}. */
  override linear(x: Tensor, weight: Tensor, out: Tensor, only?: BatchDecisions): void {
    if (only === undefined) super.linear(x, weight, out);
    else this.#decode.linear(x, weight, out, only);
  }

  /** See {@linkcode Backend.rope}. */
  override rope(x: Tensor, positions: Tensor, theta: number, only?: BatchDecisions): void {
    if (only === undefined) super.rope(x, positions, theta);
    else this.#decode.rope(x, positions, theta, only);
  }

  /** See {@linkcode Backend.add}. */
  override add(x: Tensor, delta: Tensor, only?: BatchDecisions): void {
    this.#decode.add(x, delta, only);
  }

  /** See {@linkcode Backend.record}. */
  record(work: () => void): RecordedWork {
    return this.memory.capture(work);
  }

  /**
   * See {@linkcode NativeBackend.at}.
   * @internal
   */
  protected override at(tensor: Tensor): Buffer {
    const bytes = byteSize(tensor.dtype, countOf(tensor.shape));
    return [bytes === 0 ? null : addressAt(bufferOf(tensor).address, offsetOf(tensor)), bytes];
  }

  /** As in the base class; a call that lacks workspace gets it and is made once more. */
  protected override run(op: string, call: () => number): void {
    this.#cuda.run(op, call);
  }

  /** See {@linkcode Backend.kvFilterScan}. */
  override readonly kvFilterScan: Backend["kvFilterScan"] = (spec, state, input, start, count, output) => {
    const tensors = expectScan(spec, state, input, start, count, output);
    const parts: [bytes: number, data: ArrayBufferView | undefined][] = [
      ...stateParts(state),
      [count, undefined], // keep
      [8 * NUM_COLUMNS * count, undefined], // columns
      [8, undefined], // taken
    ];
    using pack = new Pack(this.memory, parts);
    const rows = (tensor: Tensor | undefined): Buffer => {
      if (tensor === undefined) return [null, 0];
      const address = addressAt(bufferOf(tensor).address, offsetOf(tensor));
      const rowBytes = byteSize(tensor.dtype, countOf(tensor.shape.slice(1)));
      return [addressAt(address, start * rowBytes), count * rowBytes];
    };
    const places = parts.map((_, i) => pack.at(i));
    this.run("tkf_filter_scan", () =>
      callScan(this.context, spec, tensors, count, {
        state: places.slice(0, 5),
        keys: rows(tensors.keys),
        values: rows(tensors.values),
        residual: rows(tensors.residual),
        normed: rows(tensors.normed),
        queries: rows(tensors.queries),
        keep: places[5]!,
        columns: places[6]!,
        taken: places[7]!,
      }));
    const bytes = pack.read();
    storeState(state, pack, bytes); // up to a token that is not finite, which is told of below
    const taken = Number(new DataView(bytes.buffer).getBigInt64(pack.offset(7), true));
    output.keep.set(bytes.subarray(pack.offset(5), pack.offset(5) + taken), start);
    const columns = new Float64Array(bytes.buffer, pack.offset(6), NUM_COLUMNS * count);
    storeColumns(columns, count, taken, output, start);
    this.#cuda.synchronize();
    return taken;
  };

  /** See {@linkcode Backend.kvFilterObserve}. */
  override readonly kvFilterObserve: Backend["kvFilterObserve"] = (spec, state, y) => {
    expectState(spec, state);
    const parts: [number, ArrayBufferView | undefined][] = [...stateParts(state), [y.byteLength, y]];
    using pack = new Pack(this.memory, parts);
    const places = parts.map((_, i) => pack.at(i));
    this.run(
      "tkf_filter_observe",
      () => callObserve(this.context, spec, places.slice(0, 5), places[5]!, y.length),
    );
    const bytes = pack.read();
    this.#cuda.synchronize();
    storeState(state, pack, bytes);
  };
}

/** Several arrays in one device buffer, so that they cross in one copy. */
class Pack implements Disposable {
  readonly #memory: DeviceMemory;
  readonly #buffer: DeviceBuffer;
  readonly #offsets: number[] = [];
  readonly #sizes: number[];

  constructor(memory: DeviceMemory, parts: readonly [bytes: number, data: ArrayBufferView | undefined][]) {
    let total = 0;
    for (const [bytes] of parts) {
      this.#offsets.push(total);
      total += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    }
    this.#sizes = parts.map(([bytes]) => bytes);
    this.#memory = memory;
    this.#buffer = memory.alloc(total);
    const host = new Uint8Array(total);
    for (const [i, [, data]] of parts.entries()) {
      if (data === undefined) continue;
      host.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), this.#offsets[i]!);
    }
    memory.write(this.#buffer, host);
  }

  /** Byte at which part `i` begins. */
  offset(i: number): number {
    return this.#offsets[i]!;
  }

  /** Part `i` on the device. */
  at(i: number): Buffer {
    const bytes = this.#sizes[i]!;
    return bytes === 0 ? [null, 0] : [addressAt(this.#buffer.address, this.#offsets[i]!), bytes];
  }

  /** All parts, after the stream's work. */
  read(): Uint8Array<ArrayBuffer> {
    return this.#memory.read(this.#buffer);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

function stateParts(state: LayerState): [number, ArrayBufferView][] {
  return STATE_PARTS.map((name) => [state[name].byteLength, state[name]]);
}

/** Takes the first parts of a pack back into a state. */
function storeState(state: LayerState, pack: Pack, bytes: Uint8Array<ArrayBuffer>): void {
  for (const [i, name] of STATE_PARTS.entries()) {
    const part = state[name];
    const size = part.byteLength, offset = pack.offset(i);
    new Uint8Array(part.buffer, part.byteOffset, size).set(bytes.subarray(offset, offset + size));
  }
}

function offsetOf(tensor: Tensor): number {
  return (tensor as DeviceTensor).offset ?? 0;
}

/** @throws {TypeError} If the tensor is of another backend. */
function bufferOf(tensor: Tensor): DeviceBuffer {
  const { buffer } = tensor as Partial<DeviceTensor>;
  if (buffer === undefined) {
    throw new TypeError("Cannot use a tensor of this process on a device: upload it with its backend");
  }
  return buffer;
}
