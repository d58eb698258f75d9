/** Ctrl-C and SIGTERM as an abort signal, so that a task can stop between two steps of its work. */
import { ownCalibration } from "../../../../lib/methods/protocol/calibration.ts";
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
 * Listens until it is disposed of: the first signal aborts, and a second one ends the process at once. With a
 * calibration text, it also listens during fits on it. With a model mapped into memory, it also listens for a truncated
 * file.
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
    worker.postMessage({ caught: this.#caught, codes: SIGNALS, mapped: mappedFiles() } satisfies ToListener);
    return worker;
  }

  /** Checks for a signal that the event loop had no turn for. @throws The signal's reason, if there is one. */
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
