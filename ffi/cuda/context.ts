/** A context of the CUDA library: one stream, a workspace, and what kernels found wrong. */
import { KernelError, NativeLibraryError } from "../../lib/errors.ts";
import { KernelContext, text } from "../context.ts";
import { STATUS } from "../symbols.ts";
import type { DeviceMemory } from "./memory.ts";
import type { CudaSymbols } from "./symbols.ts";

/** Bytes of workspace that a context begins with: enough for most calls, so that few are made twice. */
const FIRST_WORKSPACE = 32 * 2 ** 20;

/** Owns a `tkf_context` of the CUDA library. */
export class CudaContext extends KernelContext {
  /** The library's functions, those of decode and prefill in batches among them. */
  declare readonly symbols: CudaSymbols;
  readonly #memory: DeviceMemory;

  /**
   * @param symbols The library.
   * @param memory Its stream is the context's, which ends with it; the device must be current.
   * @throws {NativeLibraryError} If the library cannot use the device.
   */
  constructor(symbols: CudaSymbols, memory: DeviceMemory) {
    const out = new BigUint64Array(1);
    const status = symbols.tkf_cuda_context_create(memory.stream, out);
    const pointer = status === STATUS.ok ? Deno.UnsafePointer.create(out[0]!) : null;
    if (pointer === null) {
      throw new NativeLibraryError(
        `Cannot use ${memory.description}: ${text(symbols.tkf_cuda_create_message())}; use --backend cpu`,
      );
    }
    super(symbols, pointer, memory.scope);
    this.#memory = memory;
    this.reserve(FIRST_WORKSPACE);
  }

  /** Makes room for results in between. @throws {KernelError} If the device has not so much memory. */
  reserve(bytes: number): void {
    this.check("tkf_cuda_workspace_reserve", this.#reserve(BigInt(bytes)));
  }

  #reserve(bytes: bigint): number {
    const status = this.symbols.tkf_cuda_workspace_reserve(this.pointer, bytes);
    if (status !== STATUS.memory) return status;
    this.#memory.trim(); // what is kept for tensors may be what lacks here
    return this.symbols.tkf_cuda_workspace_reserve(this.pointer, bytes);
  }

  /** Makes a call; one that lacks workspace gets it and is made once more. @throws {KernelError} If it fails. */
  run(op: string, call: () => number): void {
    const status = call();
    if (status === STATUS.ok) return;
    const wanted = status === STATUS.state ? this.symbols.tkf_cuda_workspace_wanted(this.pointer) : 0n;
    if (wanted === 0n) throw this.#failure(op, status);
    const failure = this.#failure(op, status);
    if (this.#reserve(wanted) !== STATUS.ok) throw failure;
    this.check(op, call());
  }

  /**
   * Whether prefill uses wgmma and TMA on sm_90; it does not at first. Graphs stay as they were recorded.
   *
   * @returns Whether it does now: false where the device or the build has it not.
   */
  useWgmma(use: boolean): boolean {
    const status = this.symbols.tkf_cuda_wgmma_use(this.pointer, use ? 1 : 0);
    if (status === STATUS.unsupported) return false;
    this.check("tkf_cuda_wgmma_use", status);
    return use;
  }

  /** Waits for the stream. @throws {KernelError} If a kernel found something wrong since the last time. */
  synchronize(): void {
    this.check("tkf_cuda_synchronize", this.symbols.tkf_cuda_synchronize(this.pointer));
  }

  #failure(op: string, status: number): KernelError {
    return new KernelError(op, status, text(this.symbols.tkf_context_message(this.pointer)));
  }
}
