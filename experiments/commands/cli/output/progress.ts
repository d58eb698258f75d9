/** Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere. */
import { escapeControls } from "../../../../lib/printable.ts";
import { fitWords, terminalColumns, wrapLines } from "./terminal.ts";

interface ProgressStream {
  writeSync(bytes: Uint8Array): number;
  isTerminal(): boolean;
}

/** Milliseconds between two ticks. */
const TICK_MS = 1000;

/** A duration in words: `8 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export class Progress {
  #stream: ProgressStream | undefined;
  readonly #now: () => number;
  readonly isTerminal: boolean;
  #began: number | undefined;
  #barShown = false;
  #tenth = -1;

  /**
   * @param stream Where to write; undefined = nowhere (`--quiet`).
   * @param now A clock in milliseconds.
   */
  constructor(stream: ProgressStream | undefined, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
    this.isTerminal = stream?.isTerminal() ?? false;
  }

  /** Starts the clock of the time left. */
  start(): void {
    this.#began = this.#now();
    this.#tenth = 0;
  }

  /** Time left in words, from the finished fraction of the work; empty while nothing is known. */
  eta(fraction: number): string {
    if (this.#began === undefined || fraction <= 0) return "";
    const elapsed = this.#now() - this.#began;
    return `${formatDuration(elapsed * (1 - fraction) / fraction)} left`;
  }

  /** Redraws the bar; without a terminal, it does nothing. */
  bar(fraction: number, label: string): void {
    if (!this.isTerminal || this.#stream === undefined) return;
    const width = terminalColumns() < 100 ? 12 : 24;
    const filled = Math.round(width * Math.min(1, Math.max(0, fraction)));
    const bar = "#".repeat(filled) + ".".repeat(width - filled);
    const text = [`[${bar}] ${(100 * fraction).toFixed(0)}%`, this.eta(fraction), label].filter((s) =>
      s !== ""
    ).join("  ");
    this.#draw(text);
  }

  #draw(text: string): void {
    this.#write(`\r\x1b[K${fitWords(escapeControls(text), terminalColumns() - 1)}`);
    this.#barShown = true;
  }

  /** Redraws the bar, or, where there is no terminal, writes a line at each tenth of the work. */
  step(fraction: number, label: string): void {
    this.bar(fraction, label);
    const tenth = Math.floor(10 * fraction);
    if (this.isTerminal || tenth === this.#tenth) return;
    this.#tenth = tenth;
    this.line([label, this.eta(fraction)].filter((part) => part !== "").join(", "));
  }

  line(text: string): void {
    if (this.#stream === undefined) return;
    this.clear();
    const shown = escapeControls(text);
    this.#write(`${this.isTerminal ? wrapLines(shown, terminalColumns()) : shown}\n`);
  }

  /** Counts the seconds of work whose progress is unknown, on a terminal, until it is disposed of. */
  tick(label: string): Disposable {
    const began = this.#now();
    const draw = () => this.isTerminal && this.#draw(`${label}: ${formatDuration(this.#now() - began)}`);
    draw();
    const timer = setInterval(draw, TICK_MS);
    return {
      [Symbol.dispose]: () => {
        clearInterval(timer);
        this.clear();
      },
    };
  }

  clear(): void {
    if (this.#barShown) this.#write("\r\x1b[K");
    this.#barShown = false;
  }

  /** Writes while there is a reader. A closed pipe ends the progress and not the work. */
  #write(text: string): void {
    if (this.#stream === undefined) return;
    const bytes = new TextEncoder().encode(text);
    try {
      for (let at = 0; at < bytes.length;) at += this.#stream.writeSync(bytes.subarray(at));
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
      this.#stream = undefined;
    }
  }
}
