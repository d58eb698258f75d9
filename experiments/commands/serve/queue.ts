/** Turns at the model: a number of texts at once, a bounded number of requests waiting, in their order. */
import { RefusedError } from "./messages.ts";

/** A queue; the owner of a turn disposes of it at the end. */
export class TurnQueue {
  readonly #limit: number;
  readonly #onChange: () => void;
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #running = 0;

  /**
   * @param turns Turns at a time.
   * @param limit Most requests that wait for a turn.
   * @param onChange Called when a turn begins or ends, and when a request begins or stops waiting.
   */
  constructor(turns: number, limit: number, onChange: () => void = () => {}) {
    this.#free = turns;
    this.#limit = limit;
    this.#onChange = onChange;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running;
  }

  /** @throws {RefusedError} If the maximum number of requests waits already. */
  expectRoom(): void {
    if (this.#free > 0 || this.#waiting.length < this.#limit) return;
    const message = `Cannot take the request: ${this.#limit} are waiting, try again later`;
    throw new RefusedError(message, null, 429);
  }

  /**
   * Waits for a turn.
   *
   * @throws {RefusedError} As {@linkcode expectRoom}.
   * @throws The signal's reason, once it is aborted: a client that has left gets no turn.
   */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    this.expectRoom();
    if (this.#free > 0) this.#free--;
    else {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const leave = () => {
        const at = this.#waiting.indexOf(resolve);
        if (at < 0) return; // its turn has come
        this.#waiting.splice(at, 1);
        this.#onChange();
        reject(signal.reason);
      };
      this.#waiting.push(resolve);
      this.#onChange();
      signal.addEventListener("abort", leave, { once: true });
      await promise.finally(() => signal.removeEventListener("abort", leave));
    }
    return this.#begin();
  }

  /** A turn that no process waits for, if there is one. */
  spare(): Disposable | undefined {
    if (this.#free === 0) return undefined;
    this.#free--;
    return this.#begin();
  }

  #begin(): Disposable {
    let isOver = false;
    this.#running++;
    this.#onChange();
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#running--;
        const next = this.#waiting.shift();
        if (next === undefined) this.#free++;
        else next();
        this.#onChange();
      },
    };
  }
}
