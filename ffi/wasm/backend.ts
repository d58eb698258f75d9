/** The backend that computes with the CPU library as WebAssembly, on tensors in its linear memory. */
import { type Backend, PRODUCTS, type Products } from "../../lib/backend.ts";
import type { DType } from "../../lib/dtype.ts";
import { expectHostTensor, hostData, type HostTensor, resizedRows, type Tensor } from "../../lib/tensor.ts";
import { KernelContext } from "../context.ts";
import { HostBackend } from "../host_backend.ts";
import { type Arguments, type Locate, STATUS } from "../library/abi.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import type { WasmLibrary } from "./library.ts";

/** Owns a `tkf_context` in an instance of the library. */
class WasmContext extends KernelContext<WasmLibrary> {
  override readonly locate: Locate = hostData;

  override invoke(name: string, args: Arguments): number {
    return this.library.memory.visit(() => super.invoke(name, args));
  }
}

/** {@linkcode Backend} over the CPU library as WebAssembly; make one with {@linkcode openWasm}. */
export class WasmBackend extends HostBackend {
  /** See {@linkcode Backend.name}. */
  override readonly name = "wasm";
  /** See {@linkcode Backend.products}. */
  declare readonly products?: NonNullable<Backend["products"]>;
  readonly #library: WasmLibrary;

  /** Use {@linkcode openWasm}. `threads` includes the calling one; the others are still to be started. */
  constructor(library: WasmLibrary, threads: number, products: Products = "exact") {
    const out = new BigUint64Array(1), status = library.symbols.tkf_context_create(threads, -1, out);
    if (status !== STATUS.ok) {
      throw new NativeLibraryError(`Cannot make a context of ${threads} threads: found status ${status}`);
    }
    super(new WasmContext(library, Number(out[0]) as unknown as Deno.PointerObject));
    this.#library = library;
    if (products === "exact") return;
    const { context } = this, use = library.symbols.tkf_products_use;
    context.check("tkf_products_use", use(context.pointer, PRODUCTS.indexOf(products)));
    this.products = products;
  }

  /** @internal Starts the other threads, of which there are `threads` with the calling one. */
  async startThreads(threads: number): Promise<void> {
    await this.#library.startThreads(this.context.pointer as unknown as number, threads);
  }

  /** See {@linkcode Backend.description}. */
  override get description(): string {
    return `wasm: ${this.context.description}`;
  }

  /** Bytes of the tensors that were made and not freed. */
  get bytesInUse(): number {
    return this.#library.memory.bytesInUse;
  }

  /** See {@linkcode Backend.alloc}. @throws {RangeError} If the memory has no room. */
  override alloc(dtype: DType, shape: readonly number[], filledLater = false): HostTensor {
    return this.#library.memory.alloc(dtype, shape, filledLater);
  }

  /** See {@linkcode Backend.upload}: a copy in linear memory. @throws {RangeError} If that has no room. */
  override upload(tensor: HostTensor): HostTensor {
    return this.#library.memory.upload(expectHostTensor(tensor));
  }

  /** See {@linkcode Backend.read}: a copy. */
  override read(tensor: Tensor): HostTensor {
    return this.#library.memory.read(tensor);
  }

  /** See {@linkcode Backend.resizeRows}. */
  override resizeRows(tensor: Tensor, rows: number): HostTensor {
    return resizedRows(
      { ...tensor, data: hostData(tensor) },
      rows,
      (dtype, shape) => this.alloc(dtype, shape),
    );
  }

  /** See {@linkcode Backend.free}; all views of the tensor are lost with it. */
  override free(tensor: Tensor): void {
    this.#library.memory.free(tensor);
  }
}
