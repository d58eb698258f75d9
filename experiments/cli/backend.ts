/** Opens what computes, building and fetching it on first use. */
import type { Backend } from "../../lib/backend.ts";
import type { CacheDType } from "../../lib/dtype.ts";
import { NativeLibraryError, UsageError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { buildArchOf, openCpu, openCuda, openDriver } from "../../ffi/mod.ts";
import { buildCpu, buildCuda, ensureBlas } from "../../build.ts";
import type { FlagValues } from "./parse.ts";
import type { Progress } from "./progress.ts";

const CHOICES = ["cpu", "cuda", "reference", "auto"] as const;
const CACHE_DTYPES = ["f32", "f16", "bf16"] as const;
/** What `--backend` takes. */
export type BackendChoice = (typeof CHOICES)[number];

/** What a user asked for. */
export interface BackendRequest {
  readonly choice: BackendChoice;
  readonly threads: number | undefined;
  /** Element type of KV caches. */
  readonly cacheDType: CacheDType;
  /** Whether a GPU's prefill uses wgmma. */
  readonly wgmma: boolean;
}

/** Most threads that can be asked for: more than any machine's cores serve. */
const MAX_THREADS = 1024;

/** Reads `--backend`, `--threads`, `--cache-dtype` and `--wgmma`. @throws {UsageError} If they are not known or out of range. */
export function readBackend(values: FlagValues): BackendRequest {
  const choice = (values.get("backend")?.[0] ?? "cpu") as BackendChoice;
  if (!CHOICES.includes(choice)) {
    throw new UsageError(`Cannot use --backend "${choice}": expected one of ${CHOICES.join(", ")}`);
  }
  const threads = values.get("threads")?.[0] as number | undefined;
  if (threads !== undefined && !(threads >= 1 && threads <= MAX_THREADS)) {
    throw new UsageError(`Cannot use --threads ${threads}: expected an integer from 1 to ${MAX_THREADS}`);
  }
  const cacheDType = (values.get("cache-dtype")?.[0] ?? "f32") as CacheDType;
  if (!CACHE_DTYPES.includes(cacheDType)) {
    throw new UsageError(
      `Cannot use --cache-dtype "${cacheDType}": expected one of ${CACHE_DTYPES.join(", ")}`,
    );
  }
  const wgmma = values.has("wgmma");
  if (wgmma && choice !== "cuda") {
    throw new UsageError(`Cannot use --wgmma with --backend ${choice}: expected --backend cuda`);
  }
  if (wgmma && cacheDType === "f32") {
    throw new UsageError("Cannot use --wgmma with a cache of f32: expected --cache-dtype f16 or bf16");
  }
  return { choice, threads, cacheDType, wgmma };
}

/** Opens the first GPU, and builds the library for it first where the cache has none and no other one is named. */
async function openGpu(onProgress: (message: string) => void, wgmma = false): Promise<Backend> {
  const { arch } = openDriver().device(0);
  if (!Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) await buildCuda({ archs: [buildArchOf(arch)], onProgress });
  return await openCuda({ wgmma });
}

/**
 * Opens a backend. `auto` takes a GPU where there is one, else native code, else plain TypeScript; where something is
 * there and cannot be had, it says so.
 *
 * @throws {NativeLibraryError} If `cpu` or `cuda` was asked for and cannot be built or loaded.
 */
export async function openBackend(request: BackendRequest, progress: Progress): Promise<Backend> {
  const { choice, threads, wgmma } = request;
  if (choice === "reference") return new ReferenceBackend();
  const onProgress = (message: string) => progress.line(message);
  if (choice === "cuda") return await openGpu(onProgress, wgmma);
  if (choice === "auto") {
    try {
      return await openGpu(onProgress);
    } catch (error) {
      if (!(error instanceof NativeLibraryError)) throw error;
      progress.line(`${error.message.replace(/;.*/, "")}: going on with native code on the CPU.`);
    }
  }
  try {
    await Promise.all([buildCpu({ onProgress }), ensureBlas({ onProgress })]);
    return await openCpu(threads === undefined ? {} : { threads });
  } catch (error) {
    if (!(error instanceof NativeLibraryError)) throw error;
    if (choice === "cpu") {
      throw new NativeLibraryError(`${error.message} (or use --backend reference, which is slow)`, {
        cause: error,
      });
    }
    progress.line(`No native code: ${error.message}. Going on in plain TypeScript, which is slow.`);
    return new ReferenceBackend();
  }
}
