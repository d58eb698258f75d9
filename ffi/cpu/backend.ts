/** The backend that computes with the native CPU library, on tensors in this process's memory. */
import type { Backend } from "../../lib/backend.ts";
import { byteSize, type DType } from "../../lib/dtype.ts";
import {
  countOf,
  expectHostTensor,
  hostData,
  type HostTensor,
  resizedRows,
  type Tensor,
} from "../../lib/tensor.ts";
import { HostBackend } from "../host_backend.ts";
import type { NativeContext } from "./context.ts";
import { TensorMemory } from "./tensor_memory.ts";

/** From this size on, memory is requested in large pages, which have 2 MB on most machines. */
const LARGE_BYTES = 4 * 2 ** 20;

/** Up to this size, a copy of a growing tensor costs less than memory that can grow in place. */
const SMALL_BYTES = 2 ** 18;

/** {@linkcode Backend} over the native CPU library; make one with {@linkcode openCpu}. */
export class CpuBackend extends HostBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "cpu";
  /** See {@linkcode Backend.products}. */
  declare readonly products?: NonNullable<Backend["products"]>;
  readonly #note: string;
  /** Memory of tensors made here that no caller has read: no view of it is left when it is freed. */
  readonly #unread = new WeakSet<ArrayBufferLike>();
  readonly #memory = new TensorMemory();

  /** Use {@linkcode openCpu}. `note` is added to the description. */
  constructor(context: NativeContext, note = "") {
    super(context);
    this.#note = note;
    if (context.products !== "exact") this.products = context.products;
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return `cpu: ${this.context.description}${this.#note && ` (${this.#note})`}`;
  }

  /** See {@linkcode Backend.hostMemory}. */
  override readonly hostMemory = (size: number): Uint8Array<ArrayBuffer> => {
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
    if (data.length === 0 && !tensor.shape.includes(0)) {
      throw new Error(`Cannot read a tensor of shape [${tensor.shape}]: it was freed`);
    }
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
}
