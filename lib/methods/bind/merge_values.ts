/** Merging of evicted values into those that stay. */
import type { FilterShape } from "../../filter/sequence.ts";
import { norm } from "../../filter/similarity.ts";
import type { LiveToken } from "../protocol/live_keys.ts";

const EPS = 1e-6;

/**
 * Merges evicted values into those that stay, head by head. An evicted value is added to the value of the key of
 * greatest cosine among those that stay. Its weight is that cosine (0 where negative) times its fraction of both
 * values' norms. The sum is divided by 1 plus its weights, as kvpress's `MergingPress` does by default.
 *
 * @returns The values that change, [numKvHeads * headDim] each, by position; nothing given is changed.
 */
export function mergeValues(
  goes: readonly LiveToken[],
  stays: readonly LiveToken[],
  { numKvHeads, headDim: d }: Pick<FilterShape, "numKvHeads" | "headDim">,
): Map<number, Float32Array<ArrayBuffer>> {
  const merged = new Map<number, Float32Array<ArrayBuffer>>();
  for (let first = 0; first < numKvHeads * d; first += d) {
    const lengths = stays.map(({ key }) => Math.max(norm(key, first, d), EPS));
    const sums = new Map<LiveToken, { weight: number; readonly sum: Float64Array }>();
    for (const { key, value } of goes) {
      const length = Math.max(norm(key, first, d), EPS);
      let nearest = -1, most = -Infinity;
      stays.forEach((other, i) => {
        let dot = 0;
        for (let a = first; a < first + d; a++) dot += key[a]! * other.key[a]!;
        const cosine = dot / (length * lengths[i]!);
        if (cosine > most) [nearest, most] = [i, cosine];
      });
      if (!(most > 0)) continue;
      const target = stays[nearest]!, own = norm(value, first, d);
      const weight = most * own / (own + norm(target.value, first, d) + EPS);
      const into = sums.get(target) ?? { weight: 0, sum: new Float64Array(d) };
      into.weight += weight;
      for (let a = 0; a < d; a++) into.sum[a]! += weight * value[first + a]!;
      sums.set(target, into);
    }
    for (const [{ position, value }, { weight, sum }] of sums) {
      const row = merged.get(position) ?? Float32Array.from(value);
      for (let a = 0; a < d; a++) row[first + a] = (value[first + a]! + sum[a]!) / (1 + weight);
      merged.set(position, row);
    }
  }
  return merged;
}
