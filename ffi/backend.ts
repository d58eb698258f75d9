/** The backend that computes with the native CPU library, on tensors in this process's memory. */
import type { Backend } from "../lib/backend.ts";
import type { DType } from "../lib/dtype.ts";
import { emptyTensor, hostData, type HostTensor, resizedRows, type Tensor } from "../lib/tensor.ts";
import type { NativeContext } from "./context.ts";
import { kvFilterObserve, kvFilterScan } from "./filter.ts";
import { NativeBackend } from "./native_backend.ts";
import type { Buffer } from "./symbols.ts";

/** {@linkcode Backend} over the native CPU library; make one with {@linkcode openCpu}. */
export class CpuBackend extends NativeBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "cpu";
  /** See {@linkcode Backend.kvFilterScan}. */
  override readonly kvFilterScan: Backend["kvFilterScan"];
  /** See {@linkcode Backend.kvFilterObserve}. */
  override readonly kvFilterObserve: Backend["kvFilterObserve"];
  readonly #note: string;

  /** Use {@linkcode openCpu}. `note` is added to the description. */
  constructor(context: NativeContext, note = "") {
    super(context);
    this.#note = note;
    this.kvFilterScan = kvFilterScan(context);
    this.kvFilterObserve = kvFilterObserve(context);
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return `cpu: ${this.context.description}${this.#note && ` (${this.#note})`}`;
  }

  /** See {@linkcode Backend.alloc}. */
  override alloc(dtype: DType, shape: readonly number[]): HostTensor {
    return emptyTensor(dtype, shape);
  }

  /** See {@linkcode Backend.upload}. */
  override upload(tensor: HostTensor): HostTensor {
    return tensor;
  }

  /** See {@linkcode Backend.resizeRows}. */
  override resizeRows(tensor: Tensor, rows: number): HostTensor {
    return resizedRows(this.read(tensor), rows);
  }

  /** See {@linkcode Backend.free}. */
  override free(): void {} // the runtime collects it

  /** See {@linkcode Backend.read}. */
  override read(tensor: Tensor): HostTensor {
    return { dtype: tensor.dtype, shape: tensor.shape, data: hostData(tensor) };
  }

  /** See {@linkcode Backend.dequantize}. */
  override dequantize(values: Tensor): HostTensor {
    return this.read(super.dequantize(values));
  }

  /** See {@linkcode NativeBackend.at}. */
  protected override at(tensor: Tensor): Buffer {
    const data = hostData(tensor) as ReturnType<typeof hostData> & BufferSource;
    return [data, data.byteLength];
  }
}
