/** Ctrl-C and SIGTERM as an abort signal, so that a task can stop between two steps of its work. */
import { ownCalibration } from "../../../../lib/methods/mod.ts";
import { mappedFiles } from "../machine/mapped.ts";
import type { ToListener } from "./interrupt_worker.ts";
import { EXIT, writeLine } from "../task.ts";

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated } as const;

let listening: Interrupt | undefined;

/** Ends a fit, which blocks the event loop, after a signal. @throws The reason of the {@linkcode Interrupt}. */
export function endFitIfInterrupted(): void {
  listening?.throwIfCaught();
}

/**
 * Listens until it is disposed of: the first signal aborts, a second one ends the process at once. Where there is a
 * calibration text, during the fits on it too; where a model is mapped into memory, for its being cut short.
 */
export class Interrupt {
  readonly #caught = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker = ownCalibration() || mappedFiles().length > 0 ? this.#listenApart() : undefined;
  readonly #controller = new AbortController();
  readonly #listeners = Object.entries(SIGNALS).map(([name, code]) => {
    const listener = () => {
      if (this.signal.aborted) {
        writeLine(Deno.stderr, "Ended at once, by a second signal");
        Deno.exit(code);
      }
      this.code = code;
      this.#controller.abort();
    };
    Deno.addSignalListener(name as Deno.Signal, listener);
    return () => Deno.removeSignalListener(name as Deno.Signal, listener);
  });
  code: number = EXIT.interrupted;
  /** Resolves once all is listened for. */
  readonly ready: Promise<void> = new Promise((resolve) => {
    if (this.#worker === undefined) resolve();
    else this.#worker.onmessage = () => resolve();
  });

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  constructor() {
    listening = this;
  }

  #listenApart(): Worker {
    const worker = new Worker(new URL("./interrupt_worker.ts", import.meta.url), { type: "module" });
    worker.postMessage(
      { caught: this.#caught, codes: SIGNALS, mapped: mappedFiles() } satisfies ToListener,
    );
    return worker;
  }

  /** Looks for a signal that the event loop has not had a turn for. @throws The signal's reason, where one has come. */
  throwIfCaught(): void {
    const code = Atomics.load(this.#caught, 0);
    if (code !== 0) {
      this.code = code;
      this.#controller.abort();
    }
    this.signal.throwIfAborted();
  }

  caused(error: unknown): boolean {
    return this.signal.aborted && error === this.signal.reason;
  }

  [Symbol.dispose](): void {
    this.#listeners.forEach((remove) => remove());
    this.#worker?.terminate();
    if (listening === this) listening = undefined;
  }
}
