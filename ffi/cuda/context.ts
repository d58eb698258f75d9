/** A context of the CUDA library: one stream, a workspace, and what kernels found wrong. */
import { KernelError, NativeLibraryError } from "../../lib/errors.ts";
import { byteSize } from "../../lib/dtype.ts";
import { countOf } from "../../lib/tensor.ts";
import { type Arguments, type Locate, STATUS } from "../library/abi.ts";
import { KernelContext } from "../context.ts";
import type { CudaLibrary } from "../library/symbols.ts";
import { bufferOf, type DeviceMemory, placeAt } from "./memory.ts";

/** Bytes of workspace that a context begins with: enough for most calls, so that few are made twice. */
const FIRST_WORKSPACE = 32 * 2 ** 20;

/** Owns a `tkf_context` of the CUDA library. */
export class CudaContext extends KernelContext<CudaLibrary> {
  override readonly locate: Locate = (tensor) => {
    const { buffer, offset = 0 } = bufferOf(tensor);
    return placeAt(buffer, offset, byteSize(tensor.dtype, countOf(tensor.shape)));
  };
  /** The features in use that some devices lack, in words. */
  readonly inUse: Set<string> = new Set();
  readonly #memory: DeviceMemory;

  /**
   * @param library The library.
   * @param memory Its stream is the context's, which ends with it; the device must be current.
   * @throws {NativeLibraryError} If the library cannot use the device.
   */
  constructor(library: CudaLibrary, memory: DeviceMemory) {
    const { symbols } = library;
    const out = new BigUint64Array(1);
    const status = symbols.tkf_cuda_context_create(memory.stream, out);
    const pointer = status === STATUS.ok ? Deno.UnsafePointer.create(out[0]!) : null;
    if (pointer === null) {
      throw new NativeLibraryError(
        `Cannot use ${memory.description}: ${
          library.text(symbols.tkf_cuda_create_message())
        }; use --backend cpu`,
      );
    }
    super(library, pointer, memory.scope);
    this.#memory = memory;
    this.reserve(FIRST_WORKSPACE);
  }

  /** Makes room for results in between. @throws {KernelError} If the device has not so much memory. */
  reserve(bytes: number): void {
    this.check("tkf_cuda_workspace_reserve", this.#reserve(BigInt(bytes)));
  }

  #reserve(bytes: bigint): number {
    const status = this.library.symbols.tkf_cuda_workspace_reserve(this.pointer, bytes);
    if (status !== STATUS.memory) return status;
    this.#memory.trim(); // the memory kept for tensors may be missing here
    return this.library.symbols.tkf_cuda_workspace_reserve(this.pointer, bytes);
  }

  /** Calls an op; one that lacks workspace gets it and is called once more. @throws {KernelError} If it fails. */
  override call(name: string, args: Arguments): void {
    const status = this.invoke(name, args);
    if (status === STATUS.ok) return;
    const failure = new KernelError(name, status, this.message);
    const wanted = status === STATUS.state
      ? this.library.symbols.tkf_cuda_workspace_wanted(this.pointer)
      : 0n;
    if (wanted === 0n || this.#reserve(wanted) !== STATUS.ok) throw failure;
    super.call(name, args);
  }

  /** See {@linkcode CudaBackend.useWgmma}. */
  useWgmma(use: boolean): boolean {
    return this.#use("tkf_cuda_wgmma_use", "wgmma", use);
  }

  /** See {@linkcode CudaBackend.useDependentLaunch}. */
  useDependentLaunch(use: boolean): boolean {
    return this.#use("tkf_cuda_dependent_launch_use", "dependent launches", use);
  }

  /** See {@linkcode CudaBackend.useBf16}. */
  useBf16(use: boolean): boolean {
    return this.#use("tkf_products_use", "products in bf16", use);
  }

  #use(
    name: "tkf_cuda_wgmma_use" | "tkf_cuda_dependent_launch_use" | "tkf_products_use",
    words: string,
    use: boolean,
  ): boolean {
    const status = this.library.symbols[name](this.pointer, use ? 1 : 0);
    if (status === STATUS.unsupported) return false;
    this.check(name, status);
    this.inUse[use ? "add" : "delete"](words);
    return use;
  }

  /** Waits for the stream. @throws {KernelError} If a kernel found something wrong since the last time. */
  synchronize(): void {
    this.check("tkf_cuda_synchronize", this.library.symbols.tkf_cuda_synchronize(this.pointer));
  }
}
