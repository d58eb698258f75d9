/** Opens the backend, and builds or downloads it on first use. */
import type { Backend, Products } from "../../../../lib/backend.ts";
import type { CacheDType } from "../../../../lib/dtype.ts";
import { NativeLibraryError, UsageError } from "../../../../lib/errors.ts";
import { MATMUL } from "../flags/flags.ts";
import { expectChoice, type FlagValues, textOf } from "../flags/parse.ts";
import { readCount } from "../flags/text.ts";
import type { Progress } from "../output/progress.ts";

const CHOICES = ["cpu", "cuda", "wasm", "reference", "auto"] as const;
const CACHE_DTYPES = ["f32", "f16", "bf16"] as const;
/** Backends that round as asked for. */
const BACKENDS: Readonly<Record<Products, readonly BackendChoice[]>> = {
  exact: CHOICES,
  bf16: ["cpu", "cuda"],
  int8: ["cpu", "wasm"],
};
type BackendChoice = (typeof CHOICES)[number];

/** The backend that a user asked for, and its settings. */
export interface BackendRequest {
  readonly choice: BackendChoice;
  readonly threads: number | undefined;
  readonly cacheDType: CacheDType;
  /** Whether no flag names that type. */
  readonly cacheByDefault?: boolean;
  /** Rounding in matrix multiplications with weights. */
  readonly products: Products;
  /** Whether no flag names it, and the opened backend takes the fastest that it has. */
  readonly fastest: boolean;
  /** Whether a GPU's prefill uses wgmma. */
  readonly wgmma: boolean;
}

/** Most threads that can be asked for: more than any machine's cores serve. */
const MAX_THREADS = 1024;

/**
 * Reads `--backend`, `--threads`, `--cache-dtype`, `--matmul` and `--wgmma`.
 *
 * @param byDefault What it is without `--matmul`. `fast` then takes what the opened backend has, if only `exact`.
 * @throws {UsageError} If they are not known or out of range.
 */
export function readBackend(values: FlagValues, byDefault: "exact" | "fast" = "exact"): BackendRequest {
  const choice = expectChoice("backend", textOf(values, "backend") ?? "cpu", CHOICES);
  const threads = readCount(values, "threads", 1, MAX_THREADS);
  const dtype = textOf(values, "cache-dtype") ?? "f32";
  const cacheDType = expectChoice("cache-dtype", dtype, CACHE_DTYPES);
  const matmul = expectChoice("matmul", textOf(values, "matmul") ?? "exact", MATMUL);
  const products = matmul === "fast" ? choice === "cuda" ? "bf16" : "int8" : matmul;
  const able = BACKENDS[products];
  if (!able.includes(choice)) {
    const expected = matmul === "fast" ? "cpu, cuda or wasm" : able.join(" or ");
    throw new UsageError(
      `Cannot use --matmul ${matmul} with --backend ${choice}: expected --backend ${expected}`,
    );
  }
  const wgmma = values.has("wgmma");
  if (wgmma && choice !== "cuda") {
    throw new UsageError(`Cannot use --wgmma with --backend ${choice}: expected --backend cuda`);
  }
  if (wgmma && cacheDType === "f32") {
    throw new UsageError("Cannot use --wgmma with a cache of f32: expected --cache-dtype f16 or bf16");
  }
  const fastest = byDefault === "fast" && !values.has("matmul");
  return {
    choice,
    threads,
    cacheDType,
    cacheByDefault: !values.has("cache-dtype"),
    products,
    fastest,
    wgmma,
  };
}

/** Whether a library is unavailable: not built, not loaded, or without a folder for it. */
function isUnavailable(error: unknown): error is Error {
  return error instanceof NativeLibraryError || error instanceof UsageError;
}

/**
 * Builds native code for the CPU while other slow work runs. If the build fails, opening the backend reports the
 * reason.
 */
export async function buildBeside({ choice }: BackendRequest, progress: Progress): Promise<void> {
  if (choice !== "cpu") return;
  try {
    const { openCpu } = await import("../../../../ffi/mod.ts");
    using _backend = await openCpu({
      threads: 1,
      build: true,
      onProgress: (message) => progress.line(message),
    });
  } catch (error) {
    if (!isUnavailable(error)) throw error;
  }
}

/**
 * Opens a backend. `auto` takes a GPU where there is one, else native code, else plain TypeScript. It reports each
 * backend that exists and cannot be used.
 *
 * @throws {NativeLibraryError} If `cpu` or `cuda` was asked for and cannot be built or loaded.
 */
export async function openBackend(request: BackendRequest, progress: Progress): Promise<Backend> {
  if (request.choice === "reference") return await openReference();
  if (request.choice === "wasm") {
    const { openWasm } = await import("../../../../ffi/wasm/mod.ts");
    const products = request.fastest ? "int8" : request.products as "exact" | "int8";
    return await openWasm({ products, threads: request.threads ?? 1 });
  }
  // The first message announces a build. A terminal shows its progress from then on.
  let ticking: Disposable | undefined;
  const onProgress = (message: string) => {
    progress.line(message);
    ticking ??= progress.tick("Building the kernels, once");
  };
  try {
    return await openNative(request, progress, { build: true, onProgress });
  } finally {
    ticking?.[Symbol.dispose]();
  }
}

async function openNative(
  { choice, threads, products, fastest, wgmma }: BackendRequest,
  progress: Progress,
  building: { readonly build: true; readonly onProgress: (message: string) => void },
): Promise<Backend> {
  const { openCpu, openCuda } = await import("../../../../ffi/mod.ts");
  const openGpu = async () => {
    const options = { ...(wgmma && { wgmma }), products: products as "exact" | "bf16", ...building };
    const backend = await openCuda(options);
    if (fastest) backend.useBf16(true); // stays exact without cuBLASLt
    return backend;
  };
  if (choice === "cuda") return await openGpu();
  if (choice === "auto") {
    try {
      return await openGpu();
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      progress.line(`${error.message.replace(/;.*/, "")}: going on with native code on the CPU.`);
    }
  }
  try {
    return await openCpu({ threads, products: fastest ? "int8" : products, ...building });
  } catch (error) {
    if (!isUnavailable(error) || products !== "exact") throw error; // the others have only exact products
    if (choice === "cpu") {
      throw new NativeLibraryError(`${error.message} (or use --backend reference, which is slow)`, {
        cause: error,
      });
    }
    progress.line(`No native code: ${error.message}. Going on in plain TypeScript, which is slow.`);
    return await openReference();
  }
}

async function openReference(): Promise<Backend> {
  const { ReferenceBackend } = await import("../../../../lib/reference/mod.ts");
  return new ReferenceBackend();
}
