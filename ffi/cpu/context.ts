/** Contexts of the CPU library. */
import { PRODUCTS, type Products } from "../../lib/backend.ts";
import { expectInteger, expectName, KernelError, NativeLibraryError } from "../../lib/errors.ts";
import { hostData } from "../../lib/tensor.ts";
import { KernelContext } from "../context.ts";
import { type Locate, STATUS } from "../library/abi.ts";
import { LEVELS } from "../library/sources.ts";
import type { NativeLibrary } from "../library/symbols.ts";

interface ContextOptions {
  /** Rounding in matrix multiplications with weights; `exact` by default. */
  readonly products?: Products | undefined;
  /** Threads, the calling one included; all cores by default. */
  readonly threads?: number | undefined;
  /** Instruction-set level by name (`base`, `avx2`, `avx512`); the best that the machine has by default. */
  readonly level?: string | undefined;
}

const levelsHere = () => LEVELS[Deno.build.arch] ?? [];

/** @throws {RangeError} If this architecture has no such level. */
export function expectLevel(level: string | undefined): void {
  if (level !== undefined) expectName("level", level, levelsHere().map(({ name }) => name));
}

/** Levels that a library has and this machine runs, lowest first. */
export function supportedLevels({ symbols }: NativeLibrary): string[] {
  const best = symbols.tkf_context_best_level(), builtIn = symbols.tkf_context_levels();
  return levelsHere().filter(({ code }) => code <= best && builtIn & 1 << code).map(({ name }) => name);
}

/** Owns a `tkf_context` of the CPU library: threads and an instruction-set level. */
export class NativeContext extends KernelContext {
  override readonly locate: Locate = hostData;
  readonly level: string;
  readonly products: Products;
  #hasBlas = false;

  /**
   * @throws {RangeError} If `threads` is not a whole number from 1 to 1024, or `level` or `products` is unknown.
   * @throws {NativeLibraryError} If this machine lacks the level, or the instructions for `products`.
   */
  constructor(library: NativeLibrary, options: ContextOptions = {}) {
    const { threads = navigator.hardwareConcurrency, level, products = "exact" } = options;
    expectInteger("threads", threads, 1, 1024);
    expectLevel(level);
    const code = levelsHere().find(({ name }) => name === level)?.code ?? -1;
    if (!PRODUCTS.includes(products)) {
      throw new RangeError(
        `Cannot make a context: found products "${products}", expected ${PRODUCTS.join(", ")}`,
      );
    }
    const out = new BigUint64Array(1);
    const status = library.symbols.tkf_context_create(threads, code, out);
    if (status === STATUS.unsupported) {
      throw new NativeLibraryError(
        `Cannot use ${level === undefined ? "this library" : `level "${level}"`}: ` +
          `this machine and the library both have ${supportedLevels(library).join(", ") || "no level"}`,
      );
    }
    const pointer = status === STATUS.ok ? Deno.UnsafePointer.create(out[0]!) : null;
    if (pointer === null) {
      throw new KernelError("tkf_context_create", status, `found status ${status} for ${threads} threads`);
    }
    super(library, pointer);
    this.level = level ?? supportedLevels(library).at(-1)!;
    this.products = products;
    const taken = library.symbols.tkf_products_use(pointer, PRODUCTS.indexOf(products));
    if (taken === STATUS.unsupported) {
      throw new NativeLibraryError(
        `Cannot use products "${products}" at level "${this.level}": ${this.message}; use exact`,
      );
    }
    this.check("tkf_products_use", taken);
  }

  get hasBlas(): boolean {
    return this.#hasBlas;
  }

  /** Loads the BLAS at a path. @throws {NativeLibraryError} If that cannot be. */
  loadBlas(path: string): void {
    const bytes = new TextEncoder().encode(path + "\0");
    if (this.library.symbols.tkf_blas_load(this.pointer, bytes) !== STATUS.ok) {
      throw new NativeLibraryError(
        `Cannot load the BLAS "${path}": ${this.message}; set TOKENFILTER_BLAS to another OpenBLAS, or to "none"`,
      );
    }
    this.#hasBlas = true;
  }
}
