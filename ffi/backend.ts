/** The backend that computes with the native CPU library, on tensors in this process's memory. */
import type { Backend, Product } from "../lib/backend.ts";
import type { BatchDecisions } from "../lib/batch_ops.ts";
import { byteSize, type DType } from "../lib/dtype.ts";
import { batchOps, onKept } from "../lib/reference/batch.ts";
import {
  countOf,
  expectHostTensor,
  hostData,
  type HostTensor,
  hostTensor,
  resizedRows,
  type Tensor,
} from "../lib/tensor.ts";
import { TensorMemory } from "./tensor_memory.ts";
import type { NativeContext } from "./context.ts";
import { kvFilterObserve, kvFilterScan } from "./filter.ts";
import { NativeBackend } from "./native_backend.ts";

/** From this size on, memory is requested in large pages, which have 2 MB on most machines. */
const LARGE_BYTES = 4 * 2 ** 20;

/** Up to this size, a copy of a growing tensor costs less than memory that can grow in place. */
const SMALL_BYTES = 2 ** 18;

/** {@linkcode Backend} over the native CPU library; make one with {@linkcode openCpu}. */
export class CpuBackend extends NativeBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "cpu";
  /** See {@linkcode Backend.kvFilterScan}. */
  override readonly kvFilterScan: Backend["kvFilterScan"];
  /** See {@linkcode Backend.kvFilterObserve}. */
  override readonly kvFilterObserve: Backend["kvFilterObserve"];
  /** See {@linkcode Backend.knowsLocal}. */
  override readonly knowsLocal = true;
  /** See {@linkcode Backend.givesShares}. */
  override readonly givesShares = true;
  /** See {@linkcode Backend.movesRows}. */
  override readonly movesRows = true;
  /** See {@linkcode Backend.products}. */
  readonly products?: NonNullable<Backend["products"]>;
  readonly #note: string;
  /** Memory of tensors made here that no caller has read: no view of it is left when it is freed. */
  readonly #unread = new WeakSet<ArrayBufferLike>();
  readonly #memory = new TensorMemory();
  #numbers: Int32Array<ArrayBuffer> = new Int32Array(0);

  /** Use {@linkcode openCpu}. `note` is added to the description. */
  constructor(context: NativeContext, note = "") {
    super(context);
    this.adopt(batchOps(this)); // each sequence by the ops of one
    this.#note = note;
    if (context.products !== "exact") this.products = context.products;
    this.kvFilterScan = kvFilterScan(context);
    this.kvFilterObserve = kvFilterObserve(context);
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return `cpu: ${this.context.description}${this.#note && ` (${this.#note})`}`;
  }

  /** See {@linkcode Backend.hostMemory}. */
  readonly hostMemory = (size: number): Uint8Array<ArrayBuffer> => {
    return this.#advised(new Uint8Array(size));
  };

  /** See {@linkcode Backend.alloc}. */
  override alloc(dtype: DType, shape: readonly number[], filledLater = false): HostTensor {
    const tensor = this.#memory.make(dtype, shape, filledLater);
    this.#advised(tensor.data);
    return this.#made(tensor);
  }

  /** See {@linkcode Backend.upload}. */
  override upload(tensor: HostTensor): HostTensor {
    return expectHostTensor(tensor);
  }

  /** See {@linkcode Backend.resizeRows}. */
  override resizeRows(tensor: Tensor, rows: number): HostTensor {
    return this.#resized(tensor, rows);
  }

  /** See {@linkcode Backend.regrowRows}. */
  override regrowRows(tensor: Tensor, rows: number): HostTensor {
    const data = hostData(tensor), { resizable } = data.buffer as ArrayBuffer;
    const bytes = byteSize(tensor.dtype, countOf([rows, ...tensor.shape.slice(1)]));
    const isCopied = !resizable && bytes <= SMALL_BYTES;
    const grown = isCopied
      ? this.#resized(tensor, rows, true)
      : this.#memory.regrow({ ...tensor, data }, rows);
    if (!resizable) this.free(tensor);
    return grown;
  }

  /**
   * See {@linkcode Backend.free}; some of the memory is kept for the next tensors. The runtime collects tensors that
   * were read, or made elsewhere.
   */
  override free(tensor: Tensor): void {
    const data = hostData(tensor), buffer = data.buffer as ArrayBuffer;
    if (this.#unread.delete(buffer) || buffer.resizable) this.#memory.giveBack(buffer);
  }

  /** See {@linkcode Backend.read}. */
  override read(tensor: Tensor): HostTensor {
    const data = hostData(tensor);
    this.#unread.delete(data.buffer);
    return { dtype: tensor.dtype, shape: tensor.shape, data };
  }

  #resized(tensor: Tensor, rows: number, filledLater = false): HostTensor {
    const make = (dtype: DType, shape: readonly number[]) => this.#memory.make(dtype, shape, filledLater);
    return this.#made(resizedRows({ ...tensor, data: hostData(tensor) }, rows, make));
  }

  /** Asks for large pages for fresh memory, where it is large. */
  #advised<Memory extends ArrayBufferView>(memory: Memory): Memory {
    const size = memory.byteLength;
    if (size >= LARGE_BYTES) this.context.call("tkf_memory_advise", { memory, size });
    return memory;
  }

  #made(tensor: HostTensor): HostTensor {
    if (tensor.data.length > 0) this.#unread.add(tensor.data.buffer);
    return tensor;
  }

  /** See {@linkcode Backend.linears}. */
  override linears(x: Tensor, products: readonly Product[], only?: BatchDecisions): void {
    if (only === undefined) return super.linears(x, products);
    for (const { weight, out } of products) onKept(only, out, [x], (out, x) => this.linear(x, weight, out));
  }

  /** See {@linkcode Backend.rope}. */
  override rope(x: Tensor, positions: Tensor, turns: Tensor, only?: BatchDecisions): void {
    if (only === undefined) super.rope(x, positions, turns);
    else onKept(only, x, [positions], (x, positions) => this.rope(x, positions, turns));
  }

  /** See {@linkcode Backend.add}. */
  override add(x: Tensor, delta: Tensor, only?: BatchDecisions): void {
    if (only !== undefined) return onKept(only, x, [delta], (x, delta) => this.add(x, delta));
    const rows = x.shape[0]!;
    if (this.#numbers.length < rows) this.#numbers = Int32Array.from({ length: rows }, (_, row) => row);
    this.scatterAddRows(x, hostTensor("i32", [rows], this.#numbers.subarray(0, rows)), delta);
  }

  /** See {@linkcode Backend.dequantize}. */
  override dequantize(values: Tensor): HostTensor {
    return this.read(super.dequantize(values));
  }
}
