/** Timers of one length that run out when a test fires them, so that a busy machine cannot cause a stall. */
export class HeldTimers implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  #latest: (() => void) | undefined;

  /** @param ms The length of the timers that are held, unlike that of any other timer */
  constructor(ms: number) {
    globalThis.setTimeout = ((act: () => void, delay?: number, ...values: []) => {
      if (delay !== ms) return this.#setTimeout(act, delay, ...values);
      this.#latest = act;
      return 0;
    }) as typeof setTimeout;
  }

  /** The timer that was set last runs out. */
  fire(): void {
    this.#latest?.();
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
  }

  /**
   * A body of which the reader gets `bytes`, and then nothing: the timer runs out once the reader asks for more.
   *
   * @param signal Ends the body, as it ends that of a real request
   */
  stallAfter(
    body: ReadableStream<Uint8Array>,
    bytes: number,
    signal: AbortSignal,
  ): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    let left = bytes;
    return new ReadableStream({
      start: (controller) => signal.addEventListener("abort", () => controller.error(signal.reason)),
      pull: async (controller) => {
        if (left <= 0) return this.fire();
        const { done, value } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value.subarray(0, left));
        left -= value.length;
      },
      cancel: (reason) => reader.cancel(reason),
    }, { highWaterMark: 0 });
  }
}
