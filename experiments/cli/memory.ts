/** The most memory that a task held. */

/** Milliseconds between two looks; they fall between two items or chunks, each of which is computed without a break. */
const LOOK_MS = 100;

/** Looks at the process's resident memory until it is disposed of. */
export class MemoryWatch implements Disposable {
  #peak = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor() {
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** The most bytes that were resident at any look, now included: kernels' buffers, weights and caches too. */
  get peakBytes(): number {
    this.#look();
    return this.#peak;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#peak = Math.max(this.#peak, Deno.memoryUsage().rss);
  }
}
