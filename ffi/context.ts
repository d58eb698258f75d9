/** Native contexts, with which every call of a library is made. */
import { KernelError } from "../lib/errors.ts";
import { Owned, type Scope } from "./owned.ts";
import { type Arguments, type Locate, STATUS } from "./library/abi.ts";
import type { NativeLibrary } from "./library/symbols.ts";

/** Owns a `tkf_context` of either library; calls its ops, and turns a failed call into an error. */
export abstract class KernelContext<Library extends NativeLibrary = NativeLibrary> implements Disposable {
  readonly library: Library;
  readonly #owned: Owned<Deno.PointerObject>;

  /**
   * Takes a context over.
   *
   * @param pointer `tkf_context*`.
   * @param scope A scope that must outlive it, such as its stream's.
   */
  constructor(library: Library, pointer: Deno.PointerObject, scope?: Scope) {
    const gone = "Cannot use this backend: it was disposed";
    this.library = library;
    this.#owned = new Owned(gone, pointer, (own) => library.symbols.tkf_context_destroy(own), scope);
  }

  /** Finds a tensor's memory. @throws {TypeError} If it is of another backend. */
  abstract readonly locate: Locate;

  /**
   * Calls an op of the library; see {@linkcode Op.call}.
   *
   * @param name Such as `tkf_linear_apply`.
   * @returns Its status.
   * @throws {RangeError} If the library has no such op.
   */
  invoke(name: string, args: Arguments): number {
    const op = this.library.ops.get(name);
    if (op === undefined) throw new RangeError(`Cannot call ${name}: this library has no such op`);
    return op.call(this.pointer, args, this.locate);
  }

  /** Calls an op of the library. @throws {KernelError} If it fails. */
  call(name: string, args: Arguments): void {
    this.check(name, this.invoke(name, args));
  }

  /** `tkf_context*`. @throws {Error} After it was disposed. */
  get pointer(): Deno.PointerObject {
    return this.#owned.value;
  }

  /** Frees the library's resources of it: threads, or memory of the device. A second call does nothing. */
  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  /** One line: level, threads and BLAS, or the device. */
  get description(): string {
    return this.library.text(this.library.symbols.tkf_context_description(this.pointer));
  }

  /** Checks a status. @throws {KernelError} If it is not 0; the message is the context's. */
  check(op: string, status: number): void {
    if (status !== STATUS.ok) throw new KernelError(op, status, this.message);
  }

  get message(): string {
    return this.library.text(this.library.symbols.tkf_context_message(this.pointer));
  }
}
