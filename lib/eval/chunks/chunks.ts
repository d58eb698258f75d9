/** How a text is cut for perplexity: disjoint chunks of one length, the tail dropped. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expectInstance, expectInteger } from "../../errors.ts";

/** Tokens of a chunk by default. */
export const DEFAULT_CONTEXT = 512;

/**
 * Cuts a token stream into floor(N / context) disjoint chunks; the tail is dropped. A BOS that begins the stream
 * stays at the front of the first chunk; later chunks get none (the protocol of GPTQ, Wanda and SLEB).
 *
 * @param ids Token ids, [N].
 * @param context Tokens per chunk, at least 2.
 * @returns Copies of the chunks, each [context].
 * @throws {RangeError} If `context` is not an integer of at least 2, or the stream is shorter than one chunk.
 *
 * @example
 * ```ts
 * console.assert(cutChunks(Int32Array.of(1, 2, 3, 4, 5), 2).length === 2);
 * ```
 */
export function cutChunks(ids: Int32Array, context: number): Int32Array<ArrayBuffer>[] {
  expectInstance("ids", ids, Int32Array);
  expectInteger("context", context, 2);
  if (ids.length < context) {
    throw new RangeError(
      `Cannot evaluate a text of ${ids.length} tokens: expected at least one context of ${context} tokens ` +
        "(take a longer text or a smaller --context)",
    );
  }
  const count = Math.floor(ids.length / context);
  return Array.from(
    { length: count },
    (_, i) => Int32Array.from(ids.subarray(i * context, (i + 1) * context)),
  );
}

const NOTHING = new Uint8Array();
/** Milliseconds, by `performance.now()`: once per interval, a turn of the event loop handles all pending events. */
const SURE_EVERY = 200;
let sure = -Infinity, last = Promise.resolve();

/**
 * Lets signals, timers and progress run between two steps of work, each of which is computed synchronously: about 0.1
 * ms. Callers go on in the order of their calls, so that works side by side take turns.
 *
 * The event loop handles pending events while another thread computes a digest, unless the digest is ready before
 * the loop begins to wait. Hence one turn per {@linkcode SURE_EVERY} ms waits for a timer, about 2 ms. `setImmediate()`
 * follows the digest, so that the order of turns does not depend on when the digest is ready. Without the digest it
 * leaves signals unhandled for dozens of turns.
 */
export function yieldToEventLoop(): Promise<void> {
  return last = last.then(waitForEvents);
}

async function waitForEvents(): Promise<void> {
  if (performance.now() - sure < SURE_EVERY) {
    await crypto.subtle.digest("SHA-256", NOTHING);
    return await nextTurn();
  }
  await new Promise((resolve) => setTimeout(resolve, 0));
  sure = performance.now();
}
