/** Owners of native resources, which `using` frees, or the end of their scope, or of the last reference to them. */

/** Frees values whose owners were collected. */
const abandoned = new FinalizationRegistry<() => void>((free) => free());

/** Frees a value once, at the first call. It holds the value and its scope, never the owner. */
function enderOf<T>(
  state: { freed: boolean },
  value: T,
  free: (value: T) => void,
  scope: Scope | undefined,
): () => void {
  const end = () => {
    if (state.freed) return;
    state.freed = true;
    scope?.remove(end);
    free(value);
  };
  return end;
}

/**
 * A resource that must outlive everything made in it, such as a stream and its memory. Disposing it frees all that is
 * left, the last made first, and then itself. If it is not disposed of, it ends after the last thing made in it.
 *
 * @example
 * ```ts
 * const ended: string[] = [];
 * const scope = new Scope("Cannot use the stream: it was disposed", () => ended.push("stream"));
 * new Owned("Cannot use the buffer: it was freed", 7, () => ended.push("buffer"), scope);
 * scope[Symbol.dispose]();
 * console.assert(ended.join() === "buffer,stream");
 * ```
 */
export class Scope implements Disposable {
  readonly #gone: string;
  readonly #close: () => void;
  readonly #ends = new Set<() => void>();
  #ended = false;

  /**
   * Opens a scope with nothing in it.
   *
   * @param gone Message of the error that use after disposal throws.
   * @param close Frees the scope's own resource. It must not hold the scope, and not throw.
   */
  constructor(gone: string, close: () => void) {
    this.#gone = gone;
    this.#close = close;
    abandoned.register(this, close, this);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Checks that the scope is in use. @throws {Error} After it was disposed. */
  expectOpen(): void {
    if (this.#ended) throw new Error(this.#gone);
  }

  /** Adds a function that is called before the scope ends. @throws {Error} After it was disposed. */
  add(end: () => void): void {
    this.expectOpen();
    this.#ends.add(end);
  }

  /** Removes a function that need not be called any more. */
  remove(end: () => void): void {
    this.#ends.delete(end);
  }

  /** Frees everything that is left, the last made first, then the scope. Once more does nothing. */
  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#ended = true;
    abandoned.unregister(this);
    for (const end of [...this.#ends].reverse()) end();
    this.#close();
  }
}

/** A handle or an address that is freed once. */
export class Owned<T> implements Disposable {
  readonly #gone: string;
  readonly #value: T;
  readonly #state = { freed: false };
  readonly #end: () => void;

  /**
   * Takes a value over.
   *
   * @param gone Message of the error that use after disposal throws.
   * @param value The owned value.
   * @param free Gives it back. It must not hold the owner, and not throw.
   * @param scope A scope that must outlive it.
   * @throws {Error} If the scope was disposed; nothing is freed then.
   */
  constructor(gone: string, value: T, free: (value: T) => void, scope?: Scope) {
    this.#gone = gone;
    this.#value = value;
    this.#end = enderOf(this.#state, value, free, scope);
    scope?.add(this.#end);
    abandoned.register(this, this.#end, this);
  }

  /** The owned value. @throws {Error} After it was freed, also by its scope. */
  get value(): T {
    if (this.#state.freed) throw new Error(this.#gone);
    return this.#value;
  }

  /** Frees it. Once more does nothing. */
  [Symbol.dispose](): void {
    abandoned.unregister(this);
    this.#end();
  }
}
