/**
 * Texts to token ids within a time. The file of a model may have regular expressions that take years on some texts, and
 * nothing else runs in their thread meanwhile: such a tokenizer works in threads of its own, which are ended.
 */
import type { Tokenizer, TokenizerOrigin } from "../../../lib/model/tokenizer/tokenizer.ts";
import { RefusedError } from "./messages.ts";

type Options = NonNullable<Parameters<Tokenizer["encode"]>[1]>;

export type ToEncoder = { readonly origin: TokenizerOrigin } | {
  readonly text: string;
  readonly options: Options;
};
export type FromEncoder =
  | { readonly ready: true }
  | { readonly ids: Int32Array<ArrayBuffer> }
  | { readonly failed: string };

/** Milliseconds that a text may take, and more for each of its characters. */
const LIMIT_MS = 3000, MS_A_CHAR = 1 / 250;

/** Milliseconds that a text waits for a thread until another one is started, and most threads. */
const PATIENCE_MS = 250, MOST_THREADS = 4;

interface Job {
  readonly text: string;
  readonly options: Options;
  readonly done: PromiseWithResolvers<Int32Array<ArrayBuffer>>;
}

export interface Encoder extends Disposable {
  /**
   * Token ids of a text, as `Tokenizer.encode()`.
   *
   * @param param The field that the text is of, for the error.
   * @throws {RefusedError} If the model's own patterns take too long on the text, or refuse it.
   */
  encode(text: string, options: Options, param: string): Promise<Int32Array<ArrayBuffer>>;
}

/** An encoder of a tokenizer: in this thread, unless its file has regular expressions of its own. */
export function openEncoder(tokenizer: Tokenizer, limitMs = LIMIT_MS): Encoder {
  const { origin } = tokenizer;
  if (origin !== undefined) return new EncoderThreads(origin, limitMs);
  return {
    encode: (text, options) => Promise.try(() => tokenizer.encode(text, options)),
    [Symbol.dispose]() {},
  };
}

class EncoderThreads implements Encoder {
  readonly #origin: TokenizerOrigin;
  readonly #limitMs: number;
  readonly #threads = new Set<Worker>();
  readonly #idle: Worker[] = [];
  readonly #waiting: Job[] = [];

  constructor(origin: TokenizerOrigin, limitMs: number) {
    this.#origin = origin;
    this.#limitMs = limitMs;
    this.#start();
  }

  async encode(text: string, options: Options, param: string): Promise<Int32Array<ArrayBuffer>> {
    const job = { text, options, done: Promise.withResolvers<Int32Array<ArrayBuffer>>() };
    this.#waiting.push(job);
    this.#handOut();
    const impatient = setTimeout(() => {
      if (this.#waiting.includes(job) && this.#threads.size < MOST_THREADS) this.#start();
    }, PATIENCE_MS);
    try {
      return await job.done.promise;
    } catch (error) {
      throw new RefusedError(`Cannot use "${param}": ${(error as Error).message}`, param);
    } finally {
      clearTimeout(impatient);
    }
  }

  /** Starts a thread, which takes texts once it has read the tokenizer. */
  #start(): void {
    const worker = new Worker(new URL("./encoder_thread.ts", import.meta.url), { type: "module" });
    this.#threads.add(worker);
    const fail = (message: string) => {
      this.#end(worker);
      if (this.#threads.size === 0) {
        this.#waiting.splice(0).forEach(({ done }) => done.reject(new Error(message)));
      }
    };
    worker.onerror = (event) => {
      event.preventDefault();
      fail(event.message);
    };
    worker.onmessage = ({ data }: MessageEvent<FromEncoder>) => {
      if ("failed" in data) return fail(data.failed);
      this.#idle.push(worker);
      this.#handOut();
    };
    this.#say(worker, { origin: this.#origin });
  }

  #end(worker: Worker): void {
    worker.terminate();
    this.#threads.delete(worker);
  }

  #handOut(): void {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      this.#work(this.#idle.pop()!, this.#waiting.shift()!);
    }
  }

  #work(worker: Worker, { text, options, done }: Job): void {
    const limitMs = this.#limitMs + text.length * MS_A_CHAR;
    const late = setTimeout(() => {
      this.#end(worker);
      done.reject(
        new Error(
          `found a text on which the model's own patterns take more than ${
            Math.ceil(limitMs / 1000)
          } s, expected another one`,
        ),
      );
      if (this.#threads.size === 0) this.#start();
    }, limitMs);
    worker.onmessage = ({ data }: MessageEvent<FromEncoder>) => {
      clearTimeout(late);
      if ("ids" in data) done.resolve(data.ids);
      else done.reject(new Error("failed" in data ? data.failed : "found another answer"));
      this.#idle.push(worker);
      this.#handOut();
    };
    this.#say(worker, { text, options });
  }

  #say(worker: Worker, message: ToEncoder): void {
    worker.postMessage(message);
  }

  [Symbol.dispose](): void {
    for (const worker of this.#threads) worker.terminate();
  }
}
