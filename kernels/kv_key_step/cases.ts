/** Cases of `kvKeyStep`, and random calls of `tkf_key_step`. */
import { drawCache } from "../filtered_attention/cases.ts";
import {
  drawSpec,
  drawStates,
  type FilterCase,
  filterCase,
  NUM_FILTER_CASES,
  withHeads,
} from "../kv_filter_scan/cases.ts";
import { type Calls, FLOATS } from "../testing/fuzz/draw.ts";

/** Blocks and windows: begun by the warm-up, at once, token by token, without a window, with one beyond several blocks. */
const BLOCKS = [
  { warmup: 8, block: 4, recent: 3 },
  { warmup: 0, block: 5, recent: 4 },
  { warmup: 2, block: 1, recent: 1 },
  { warmup: 10, block: 4, recent: 0 },
  { warmup: 6, block: 3, recent: 11 },
];

/** Cases of every rule and policy that the kernels have of keys and values, of at most 45 tokens and half a stay. */
export const KEY_CASES: readonly FilterCase[] = Array.from(
  { length: NUM_FILTER_CASES },
  (_, i) => filterCase(i),
)
  .filter(({ spec }) => spec.rule.memory === undefined && spec.threshold !== "topk")
  // A third has heads of more than 32 numbers, over which a warp goes several times.
  .map((c, i) => i % 3 === 2 ? withHeads(c, [72, 33, 128][Math.floor(i / 3) % 3]!, "f32") : c)
  .map((c, i) => ({
    ...c,
    tokens: Math.min(c.tokens, 45),
    spec: { ...c.spec, ...BLOCKS[i % BLOCKS.length]!, skipRatio: Math.max(c.spec.skipRatio, 0.5) },
  }));

export const CALLS: Calls = {
  tkf_key_step(d) {
    const { layer, spec } = drawSpec(d, false), batch = d.size(5), { numKvHeads, headDim } = layer;
    const cache = drawCache(d, batch, d.from(1, numKvHeads), headDim, d.pick(FLOATS)),
      { capacity, counts } = cache;
    const positions = d.indices(batch, 40, -1), size = batch * numKvHeads * headDim;
    // Most tokens are the last ones of their cache; the others stay as they are.
    counts.forEach((count, b) => cache.positions[b * capacity + count - 1] = positions[b]!);
    return {
      spec,
      states: drawStates(d, layer, batch).states,
      cache,
      ...{ filter_keys: d.floats(size), values: d.floats(size), recent: d.size(40) },
      positions,
      ends: d.indices(cache.positions.length, 60),
      keep: d.flags(batch),
      columns: d.once(2) ? new Float64Array(7 * batch) : null,
    };
  },
};
