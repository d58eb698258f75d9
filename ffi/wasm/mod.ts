/**
 * The kernels as WebAssembly: models run in Node, Bun and browsers, without a compiler or a permission for native code.
 *
 * ```ts
 * import { loadModel } from "@tokenfilter/tokenfilter";
 * import { openWasm } from "@tokenfilter/tokenfilter/wasm";
 * const { model, tokenizer } = await loadModel("tiny", await openWasm());
 * const hidden = model.start().feed(tokenizer.encode("The sea was calm.", { bos: true }));
 * console.assert(model.logits(hidden).shape[1] === model.config.vocabSize);
 * ```
 * @module
 */
import { expectInteger, expectName, expectOptions, NativeLibraryError } from "../../lib/errors.ts";
import { WasmBackend } from "./backend.ts";
import { openLibrary } from "./library.ts";
import { MOST_THREADS } from "./threads.ts";
import { DEFAULT_BYTES, LEAST_BYTES, MOST_BYTES } from "./memory.ts";

export { WasmBackend } from "./backend.ts";

/** Options of {@linkcode openWasm}. */
export interface WasmOptions {
  /** The library: its bytes, or a compiled module. By default the file of the package, which a browser fetches. */
  readonly wasm?: BufferSource | WebAssembly.Module;
  /**
   * The most bytes that weights, caches and results take together: up to 4 GiB, which is the default where memory can grow
   * (Deno, Bun, Chromium); 1 GiB elsewhere.
   */
  readonly memory?: number;
  /** Rounding in matrix multiplications with weights, as `openCpu` has it; `exact` by default. */
  readonly products?: "exact" | "int8";
  /**
   * Threads, the calling one included: 1 by default, at most 64. More of them take another file, which browsers run in pages
   * that are cross-origin isolated.
   */
  readonly threads?: number;
}

/**
 * Opens the kernels as WebAssembly. Results are bit for bit those of the native library at level `base` on x86-64.
 * Tensors lie in a memory of the backend's own: it ends with the last reference to the backend and to its tensors.
 *
 * @throws {TypeError | RangeError} If an option is unknown, or its value wrong.
 * @throws {NativeLibraryError} If the file is missing or another one, the engine lacks simd128, or has too little memory;
 * or if threads cannot start.
 */
export async function openWasm(options: WasmOptions = {}): Promise<WasmBackend> {
  expectOptions(options, { wasm: "object", memory: "number", products: "string", threads: "number" });
  const { wasm, memory = DEFAULT_BYTES, products = "exact", threads = 1 } = options;
  expectName("products", products, ["exact", "int8"]);
  expectInteger("memory", memory, LEAST_BYTES, 2 ** 32);
  expectInteger("threads", threads, 1, MOST_THREADS);
  const isIsolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated;
  if (threads > 1 && isIsolated === false && !("process" in globalThis)) {
    throw new NativeLibraryError(
      `Cannot start ${threads} threads of WebAssembly: this page is not cross-origin isolated; expected the headers ` +
        "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  const library = await openLibrary(wasm, Math.min(memory, MOST_BYTES), threads > 1);
  const backend = new WasmBackend(library, threads, products);
  await backend.startThreads(threads);
  return backend;
}
