/** A control: a method's own decisions, in another order. */
import { randomScore } from "../random.ts";

/**
 * Decisions of each layer in a random order beyond the warm-up: as many go as before, in every layer, whichever they are. Taken
 * again by {@linkcode createReplay}, they say whether it matters which tokens a method chose.
 *
 * @param masks Per layer one entry a token, as a sequence's `keep` or `kvKeep`; left as they are.
 * @param warmup Tokens at the start whose decisions stay where they are.
 * @param end Tokens from here on keep theirs too: of keys and values, those that were not judged. Default: none.
 *
 * @example
 * ```ts
 * import { shuffleDecisions } from "@tokenfilter/tokenfilter/methods";
 * const shuffled = shuffleDecisions(new Map([[2, Uint8Array.of(1, 1, 0, 0, 0, 1, 1, 1)]]), { warmup: 2, seed: 1n });
 * console.assert(shuffled.get(2)!.subarray(2).filter((kept) => kept === 0).length === 3);
 * ```
 */
export function shuffleDecisions(
  masks: ReadonlyMap<number, Uint8Array>,
  { warmup, end, seed }: { readonly warmup: number; readonly end?: number; readonly seed: bigint },
): Map<number, Uint8Array<ArrayBuffer>> {
  return new Map([...masks].map(([layer, mask]) => {
    const shuffled = Uint8Array.from(mask), part = shuffled.subarray(warmup, end);
    const order = Array.from(part, (_, i) => ({ i, at: randomScore(seed, 0, layer, i) }));
    part.set(order.sort((a, b) => a.at - b.at || a.i - b.i).map(({ i }) => mask[warmup + i]!));
    return [layer, shuffled];
  }));
}
