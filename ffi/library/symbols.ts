/**
 * The functions of the C ABI that are about a library and its contexts, as `Deno.dlopen` needs them; the ops are known
 * from the library (`abi.ts`). `symbols_test.ts` compares them with the headers.
 */
import type { Op } from "./abi.ts";

export const IDENTITY = {
  tkf_abi_version: { parameters: [], result: "i32" },
  tkf_abi_describe: { parameters: [], result: "pointer" },
  tkf_abi_address: { parameters: ["buffer"], result: "f64" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions of both libraries, as `Deno.dlopen` needs them: those of `tokenfilter.h` but the ops. */
export const SYMBOLS = {
  ...IDENTITY,
  tkf_context_create: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  tkf_context_destroy: { parameters: ["pointer"], result: "i32" },
  tkf_context_message: { parameters: ["pointer"], result: "pointer" },
  tkf_context_description: { parameters: ["pointer"], result: "pointer" },
  tkf_context_best_level: { parameters: [], result: "i32" },
  tkf_context_levels: { parameters: [], result: "i32" },
  tkf_products_use: { parameters: ["pointer", "i32"], result: "i32" },
  tkf_blas_load: { parameters: ["pointer", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Those of the CUDA library: also those of `tokenfilter_cuda.h`. */
export const CUDA_SYMBOLS = {
  ...SYMBOLS,
  tkf_cuda_context_create: { parameters: ["pointer", "buffer"], result: "i32" },
  tkf_cuda_create_message: { parameters: [], result: "pointer" },
  tkf_cuda_workspace_reserve: { parameters: ["pointer", "u64"], result: "i32" },
  tkf_cuda_workspace_wanted: { parameters: ["pointer"], result: "u64" },
  tkf_cuda_wgmma_use: { parameters: ["pointer", "i32"], result: "i32" },
  tkf_cuda_dependent_launch_use: { parameters: ["pointer", "i32"], result: "i32" },
  tkf_cuda_synchronize: { parameters: ["pointer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** An opened library. It is never closed: its threads may outlive its users. */
export interface NativeLibrary<Table extends Deno.ForeignLibraryInterface = typeof SYMBOLS> {
  readonly symbols: Deno.DynamicLibrary<Table>["symbols"];
  /** Its ops by name, such as `tkf_linear_apply`. */
  readonly ops: ReadonlyMap<string, Op>;
  /** The text at an address; empty at NULL. */
  readonly text: (pointer: Deno.PointerValue) => string;
}
/** Both tables: declarations of a package lose the spread of the one in the other. */
export type CudaLibrary = NativeLibrary<typeof SYMBOLS & typeof CUDA_SYMBOLS>;
