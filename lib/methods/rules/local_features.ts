/**
 * Features of `learned` from a token's attention before it is computed, where a local substitute is computed for all.
 * They compare the scores over the sinks and the recent window with the possible contribution of the keys beyond them.
 */
import type { LayerSpec } from "../../filter/layer.ts";
import type { RuleToken } from "../../filter/rule.ts";

/** The estimate for the keys beyond the window is clamped to +- this. */
const FAR_LIMIT = 12;

/** Names of the features, in their order: three a query head, and one. */
export function nameLocalFeatures(numHeads: number): string[] {
  const heads = Array.from({ length: numHeads }, (_, head) => head);
  return [
    ...heads.flatMap((head) => [`ln local ${head}`, `ln sinks ${head}`, `ln far ${head}`]),
    "ln far keys",
  ];
}

export function countLocalFeatures(numHeads: number): number {
  return 3 * numHeads + 1;
}

const widthOf = ({ numKvHeads, headDim }: LayerSpec): number => numKvHeads * headDim;

/**
 * Numbers in their memory: the keys of the sinks, those of the last `recent` + 1 tokens, and of all others the mean and
 * the sum of squared distances from it per dimension. It does not grow with the sequence.
 */
export function localSize(spec: LayerSpec): number {
  return (spec.sinks + spec.recent + 3) * widthOf(spec);
}

/** ln(sum of exp(scores)); -Infinity of none. */
function logSumExp(scores: readonly number[]): number {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  return scores.length === 0 ? top : top + Math.log(scores.reduce((sum, x) => sum + Math.exp(x - top), 0));
}

/**
 * Takes the next token in and writes its features. The local keys are those with j < sinks or t - j <= recent; a score
 * is q.k/sqrt(d). There are three features per query head. The first is L = ln(sum of exp(score)) over the local keys.
 * The second is ln of the sinks' fraction of that sum, 0 where there are no sinks. The third is q.m/sqrt(d) + (q^2 .
 * var)/(2d) + ln(n) - L, clamped to +-12. Here m and var are the mean and the population variance of the n keys that
 * are not local, 0 where there are none. The last feature of all is ln(n), n at least 1.
 *
 * @param memory [{@linkcode localSize}], zeros before the first token.
 * @param out At least [{@linkcode countLocalFeatures}].
 */
export function takeLocal(
  spec: LayerSpec,
  { position, key, queries }: Pick<RuleToken, "position" | "key" | "queries">,
  memory: Float64Array,
  out: Float64Array,
): void {
  const { numHeads, numKvHeads, headDim, sinks, recent } = spec, width = widthOf(spec);
  const ring = sinks * width, mean = ring + (recent + 1) * width, squares = mean + width;
  const gone = position - recent - 1, slot = ring + (position % (recent + 1)) * width;
  if (gone >= sinks) {
    const count = gone - sinks + 1;
    for (let i = 0; i < width; i++) {
      const distance = memory[slot + i]! - memory[mean + i]!;
      memory[mean + i]! += distance / count;
      memory[squares + i]! += distance * (memory[slot + i]! - memory[mean + i]!);
    }
  }
  memory.set(key, slot);
  if (position < sinks) memory.set(key, position * width);

  const n = Math.max(1, gone - sinks + 1), scale = 1 / Math.sqrt(headDim);
  const first = Math.max(position - recent, 0);
  for (let head = 0, at = 0; head < numHeads; head++) {
    const q = queries.subarray(head * headDim, (head + 1) * headDim);
    const own = Math.floor(head / (numHeads / numKvHeads)) * headDim;
    const dot = (row: number) => {
      let sum = 0;
      for (let i = 0; i < headDim; i++) sum += q[i]! * memory[row + own + i]!;
      return sum;
    };
    const ofSinks: number[] = [], ofRecent: number[] = [];
    for (let j = 0; j < Math.min(sinks, position + 1); j++) ofSinks.push(scale * dot(j * width));
    for (let j = Math.max(first, sinks); j <= position; j++) {
      ofRecent.push(scale * dot(ring + (j % (recent + 1)) * width));
    }
    const L = logSumExp([...ofSinks, ...ofRecent]);
    let spread = 0;
    for (let i = 0; i < headDim; i++) spread += q[i]! ** 2 * memory[squares + own + i]! / n;
    const far = scale * dot(mean) + spread / (2 * headDim) + Math.log(n) - L;
    out[at++] = L;
    out[at++] = sinks === 0 ? 0 : logSumExp(ofSinks) - L;
    out[at++] = Math.max(-FAR_LIMIT, Math.min(FAR_LIMIT, far));
  }
  out[countLocalFeatures(numHeads) - 1] = Math.log(n);
}
