/** Ctrl-C and SIGTERM as an abort signal, so that a task can stop between two steps of its work. */
import { EXIT } from "./task.ts";

/** Exit codes by signal. */
const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated } as const;

/** Listens until it is disposed of. */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #listeners = Object.entries(SIGNALS).map(([name, code]) => {
    const listener = () => {
      this.code = code;
      this.#controller.abort();
    };
    Deno.addSignalListener(name as Deno.Signal, listener);
    return () => Deno.removeSignalListener(name as Deno.Signal, listener);
  });
  /** The exit code that belongs to the signal. */
  code: number = EXIT.interrupted;

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Whether an error is this interruption. */
  caused(error: unknown): boolean {
    return this.signal.aborted && error === this.signal.reason;
  }

  [Symbol.dispose](): void {
    this.#listeners.forEach((remove) => remove());
  }
}
