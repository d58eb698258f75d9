/** What the backends of the CPU library have in common: tensors are arrays of this process. */
import type { Backend, Product } from "../lib/backend.ts";
import type { BatchDecisions } from "../lib/batch_ops.ts";
import type { DType } from "../lib/dtype.ts";
import { batchOps, onKept } from "../lib/reference/batch.ts";
import { firstRows, type HostTensor, hostTensor, type Tensor } from "../lib/tensor.ts";
import type { KernelContext } from "./context.ts";
import { kvFilterObserve, kvFilterScan } from "./filter.ts";
import { NativeBackend } from "./native_backend.ts";

/** @internal The CPU library, native or as WebAssembly; ops on some sequences of a batch are made of those on one. */
export abstract class HostBackend extends NativeBackend {
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
  /** See {@linkcode Backend.hostMemory}. */
  readonly hostMemory?: NonNullable<Backend["hostMemory"]>;
  /** 0, 1, 2, ... */
  #numbers: Tensor = hostTensor("i32", [0], new Int32Array(0));

  constructor(context: KernelContext) {
    super(context);
    this.adopt(batchOps(this)); // each sequence by the ops of one
    this.kvFilterScan = kvFilterScan(context);
    this.kvFilterObserve = kvFilterObserve(context);
  }

  abstract override alloc(dtype: DType, shape: readonly number[], filledLater?: boolean): HostTensor;
  abstract override upload(tensor: HostTensor): HostTensor;

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
    if (this.#numbers.shape[0]! < rows) {
      this.free(this.#numbers);
      this.#numbers = this.upload(
        hostTensor("i32", [rows], Int32Array.from({ length: rows }, (_, row) => row)),
      );
    }
    this.scatterAddRows(x, firstRows(this.#numbers, rows), delta);
  }

  /** See {@linkcode Backend.dequantize}. */
  override dequantize(values: Tensor): HostTensor {
    return this.read(super.dequantize(values));
  }
}
