/** The memory of a task: the limit of `--memory`, and the peak. */
import { UsageError } from "../../../../lib/errors.ts";
import { type FlagValues, textOf } from "../flags/parse.ts";

/** Bytes of `--memory 500M` or `2G`; undefined where it is not given. @throws {UsageError} If it is no size. */
export function readCacheBytes(values: FlagValues): number | undefined {
  const text = textOf(values, "memory");
  if (text === undefined) return undefined;
  const [, count, unit] = text.match(/^(\d+(?:\.\d+)?)([MG])$/) ?? [];
  if (count === undefined) {
    throw new UsageError(`Cannot use --memory "${text}": expected a size such as 500M or 2G, 0M for none`);
  }
  return Math.floor(Number(count) * (unit === "G" ? 2 ** 30 : 2 ** 20));
}

/** Milliseconds between two measurements; an item or a chunk is computed without a break, and delays them. */
const LOOK_MS = 100;

/** Looks at the process's resident memory until it is disposed of. */
export class MemoryWatch implements Disposable {
  #peak = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor() {
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Peak of the resident memory so far: kernels' buffers, weights and caches too. */
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
