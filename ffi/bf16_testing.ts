/** Whether this machine has products in bf16, for tests. */
import { NativeLibraryError } from "../lib/errors.ts";
import { openCpu } from "./mod.ts";

/**
 * The unit that multiplies in bf16 here, `AMX` or `AVX512-BF16`; or the reason why there is none.
 *
 * @param level Instruction-set level; by default that of {@linkcode openCpu}.
 */
export async function findBf16Unit(level?: string): Promise<{ unit?: string; reason?: string }> {
  try {
    using backend = await openCpu({ products: "bf16", level, threads: 1, blas: "none" });
    return { unit: backend.description.match(/ in bf16 by ([A-Z0-9-]+)/)![1]! };
  } catch (error) {
    if (!(error instanceof NativeLibraryError)) throw error;
    const { message } = error;
    if (message.includes("expected level avx512")) return { reason: "needs level avx512" };
    if (message.includes("neither AMX nor AVX512-BF16")) return { reason: "needs AMX or AVX512-BF16" };
    throw error;
  }
}
