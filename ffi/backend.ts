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
  override readonly name = "cpu";
  override readonly kvFilterScan: Backend["kvFilterScan"];
  override readonly kvFilterObserve: Backend["kvFilterObserve"];
  readonly #note: string;

  /** Use {@linkcode openCpu}. `note` is added to the description. */
  constructor(context: NativeContext, note = "") {
    super(context);
    this.#note = note;
    this.kvFilterScan = kvFilterScan(context);
    this.kvFilterObserve = kvFilterObserve(context);
  }

  override get description(): string {
    return `cpu: ${this.context.description}${this.#note && ` (${this.#note})`}`;
  }

  override alloc(dtype: DType, shape: readonly number[]): HostTensor {
    return emptyTensor(dtype, shape);
  }

  override upload(tensor: HostTensor): HostTensor {
    return tensor;
  }

  override resizeRows(tensor: Tensor, rows: number): HostTensor {
    return resizedRows(this.read(tensor), rows);
  }

  override free(): void {} // the runtime collects it

  override read(tensor: Tensor): HostTensor {
    return { dtype: tensor.dtype, shape: tensor.shape, data: hostData(tensor) };
  }

  override dequantize(values: Tensor): HostTensor {
    return this.read(super.dequantize(values));
  }

  protected override at(tensor: Tensor): Buffer {
    const data = hostData(tensor) as ReturnType<typeof hostData> & BufferSource;
    return [data, data.byteLength];
  }
}
