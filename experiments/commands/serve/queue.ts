/** Turns at the model: one request after the other, a bounded number of them waiting. */

/** There are as many requests as may wait. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
}

/** A queue; who has a turn disposes of it at the end. */
export class TurnQueue {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #isBusy = false;

  /** @param limit Most requests that wait, beside the one whose turn it is. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /**
   * Waits for a turn.
   *
   * @throws {QueueFullError} If as many wait already as may.
   * @throws The signal's reason, once it is aborted: who left waits no longer.
   */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#isBusy) {
      if (this.#waiting.length >= this.#limit) {
        throw new QueueFullError(`Cannot take the request: ${this.#limit} are waiting, try again later`);
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const leave = () => {
        const at = this.#waiting.indexOf(resolve);
        if (at < 0) return; // its turn has come
        this.#waiting.splice(at, 1);
        reject(signal.reason);
      };
      this.#waiting.push(resolve);
      signal.addEventListener("abort", leave, { once: true });
      await promise.finally(() => signal.removeEventListener("abort", leave));
    }
    this.#isBusy = true;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        const next = this.#waiting.shift();
        if (next === undefined) this.#isBusy = false;
        else next();
      },
    };
  }
}
