/** A control: a method's own decisions, in another order. */
import type { FilterShape } from "../filter/sequence.ts";
import { judgedTokens } from "../filter/blocks.ts";
import { randomScore } from "../random.ts";
import { keyMethodOf } from "./list.ts";
import { isEviction } from "./method.ts";
import type { ResolvedOptions } from "./options.ts";
import type { Pruner } from "./pruner.ts";
import { createReplay } from "./replay.ts";
import { keyRuleOf } from "./sides.ts";

/**
 * Decisions of each layer in a random order beyond the warm-up: as many go as before, in every layer, whichever they are. Taken
 * again by {@linkcode createReplay}, they say whether it matters which tokens a method chose.
 *
 * @param masks Per layer one entry a token, as a sequence's `keep` or `kvKeep`; left as they are.
 * @param warmup Tokens at the start whose decisions stay where they are.
 * @param end Tokens from here on keep theirs too: of keys and values, those that were not judged. Default: none.
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

/**
 * A method's own decisions, shuffled in time: a sequence runs with the method first, and then with its decisions beyond the
 * warm-up in a random order, layer by layer, on both sides.
 *
 * @throws {RangeError} If keys and values go at other times than when they are first judged.
 */
export function createShuffled(
  shape: Pick<FilterShape, "numLayers">,
  of: Pruner,
  { seed, kvFusion }: Pick<ResolvedOptions, "seed" | "kvFusion">,
): Pruner {
  const rule = keyRuleOf({ kvFusion }), isEvicting = rule !== undefined && isEviction(keyMethodOf(rule));
  if (isEvicting || of.prepare !== undefined) {
    throw new RangeError(
      `Cannot shuffle the decisions of "${of.name}": expected a method that judges each token once`,
    );
  }
  const { spans, skipped: { cached, substitute }, keySide } = of, { warmup, block, recent } = spans;
  return {
    ...of,
    at: "prefill",
    prepare: {
      kind: "rehearse",
      of,
      then: ({ length, keep, kvKeep }) => {
        const end = keySide && judgedTokens(length, spans), first = Math.max(warmup, 1);
        return createReplay(shape, {
          warmup,
          recent,
          cacheSkipped: cached,
          block,
          whole: true,
          ...(substitute && { substitute }),
          keep: shuffleDecisions(keep, { warmup: first, seed }),
          kvKeep: shuffleDecisions(kvKeep, { warmup: first, end, seed }),
        });
      },
    },
  };
}
