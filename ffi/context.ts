/** Native contexts: what every call of a library is made with. */
import { KernelError, NativeLibraryError } from "../lib/errors.ts";
import { Owned, type Scope } from "./owned.ts";
import { LEVELS } from "./sources.ts";
import { STATUS, type Symbols } from "./symbols.ts";

/** What {@linkcode NativeContext} is made with. */
export interface ContextOptions {
  /** Threads, the calling one included; all cores by default. */
  readonly threads?: number;
  /** Instruction-set level by name (`base`, `avx2`, `avx512`); the best that the machine has by default. */
  readonly level?: string;
}

/** Levels that this machine runs, lowest first. */
export function supportedLevels(symbols: Symbols): string[] {
  const best = symbols.tkf_context_best_level();
  return (LEVELS[Deno.build.arch] ?? []).filter(({ code }) => code <= best).map(({ name }) => name);
}

/** Owns a `tkf_context` of either library; turns a failed call into an error. */
export class KernelContext implements Disposable {
  /** The library's functions. */
  readonly symbols: Symbols;
  readonly #owned: Owned<Deno.PointerObject>;

  /**
   * Takes a context over.
   *
   * @param symbols The library that made it.
   * @param pointer `tkf_context*`.
   * @param scope What must outlive it, such as its stream.
   */
  constructor(symbols: Symbols, pointer: Deno.PointerObject, scope?: Scope) {
    const gone = "Cannot use this backend: it was disposed";
    this.symbols = symbols;
    this.#owned = new Owned(gone, pointer, (own) => symbols.tkf_context_destroy(own), scope);
  }

  /** `tkf_context*`. @throws {Error} After it was disposed. */
  get pointer(): Deno.PointerObject {
    return this.#owned.value;
  }

  /** Gives back what the library holds for it: threads, or memory of the device. Once more does nothing. */
  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  /** One line: level, threads and BLAS, or the device. */
  get description(): string {
    return text(this.symbols.tkf_context_description(this.pointer));
  }

  /** Checks a status. @throws {KernelError} If it is not 0; the message is the context's. */
  check(op: string, status: number): void {
    if (status !== STATUS.ok) {
      throw new KernelError(op, status, text(this.symbols.tkf_context_message(this.pointer)));
    }
  }
}

/** Owns a `tkf_context` of the CPU library: threads and an instruction-set level. */
export class NativeContext extends KernelContext {
  /**
   * @throws {RangeError} If `threads` is not a whole number from 1 to 1024, or `level` is unknown.
   * @throws {NativeLibraryError} If this machine lacks the level.
   */
  constructor(symbols: Symbols, options: ContextOptions = {}) {
    const { threads = navigator.hardwareConcurrency, level } = options;
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
      throw new RangeError(`Cannot make a context: found ${threads} threads, expected 1 to 1024`);
    }
    const levels = LEVELS[Deno.build.arch] ?? [];
    const code = level === undefined ? -1 : levels.find(({ name }) => name === level)?.code;
    if (code === undefined) {
      const names = levels.map(({ name }) => name).join(", ");
      throw new RangeError(`Cannot make a context: found level "${level}", expected one of ${names}`);
    }
    const out = new BigUint64Array(1);
    const status = symbols.tkf_context_create(threads, code, out);
    if (status === STATUS.unsupported) {
      throw new NativeLibraryError(
        `Cannot use level "${level}": this machine has ${supportedLevels(symbols).join(", ")}`,
      );
    }
    const pointer = status === STATUS.ok ? Deno.UnsafePointer.create(out[0]) : null;
    if (pointer === null) {
      throw new KernelError("tkf_context_create", status, `found status ${status} for ${threads} threads`);
    }
    super(symbols, pointer);
  }

  /** Loads the BLAS at a path. @throws {NativeLibraryError} If that cannot be. */
  loadBlas(path: string): void {
    const status = this.symbols.tkf_blas_load(this.pointer, new TextEncoder().encode(path + "\0"));
    if (status !== STATUS.ok) {
      const message = text(this.symbols.tkf_context_message(this.pointer));
      throw new NativeLibraryError(
        `Cannot load the BLAS "${path}": ${message}; set TOKENFILTER_BLAS to another OpenBLAS, or to "none"`,
      );
    }
  }
}

/** The text at an address; empty at NULL. */
export function text(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}
