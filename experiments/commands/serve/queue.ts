/** Turns at the model: a number of texts at once, a bounded number of requests waiting, in their order. */
import { RefusedError } from "./messages.ts";

/** A turn, which its owner disposes of at the end. */
export interface Turn extends Disposable {
  /**
   * Waits without the turn, which others take meanwhile, and takes one again before all that wait.
   *
   * @throws The signal's reason, once it is aborted: the turn is over then.
   */
  rest(until: Promise<void>, signal: AbortSignal): Promise<void>;
}

/** A queue of turns. */
export class TurnQueue {
  readonly #limit: number;
  readonly #onChange: () => void;
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #running = 0;
  #resting = 0;

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
  async take(signal: AbortSignal): Promise<Turn> {
    signal.throwIfAborted();
    this.expectRoom();
    await this.#wait(signal, "push");
    return this.#begin();
  }

  /** Takes a place, at once or behind those that wait, or before them. */
  async #wait(signal: AbortSignal, at: "push" | "unshift"): Promise<void> {
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
      this.#waiting[at](resolve);
      this.#onChange();
      signal.addEventListener("abort", leave, { once: true });
      await promise.finally(() => signal.removeEventListener("abort", leave));
    }
  }

  #giveBack(): void {
    this.#running--;
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
    this.#onChange();
  }

  /** A turn that no process waits for, if there is one. */
  spare(): Turn | undefined {
    if (this.#free === 0) return undefined;
    this.#free--;
    return this.#begin();
  }

  #begin(): Turn {
    let isOver = false;
    const run = () => {
      this.#running++;
      this.#onChange();
    };
    const end = () => {
      if (isOver) return;
      isOver = true;
      this.#giveBack();
    };
    run();
    return {
      [Symbol.dispose]: end,
      rest: async (until, signal) => {
        // As many may rest as may wait: each keeps the memory of its text.
        if (this.#resting >= this.#limit) return await until;
        this.#resting++;
        end();
        await until.finally(() => this.#resting--);
        signal.throwIfAborted();
        await this.#wait(signal, "unshift");
        isOver = false;
        run();
      },
    };
  }
}
