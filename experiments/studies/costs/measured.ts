/** Expected next to measured costs: the first four layers of SmolLM2-135M at 4,096 tokens. */
import type { CostShape } from "../../../lib/cost.ts";
import { type MethodOptions, resolveOptions } from "../../../lib/methods/mod.ts";
import { expectCost, type ExpectedCost, rowBytes, weightBytes } from "./expected.ts";

/** The timed model: SmolLM2-135M's first four layers, without the output layer. */
const SHAPE: CostShape = {
  ...{ numLayers: 4, numHeads: 9, numKvHeads: 3, headDim: 64 },
  ...{ hiddenSize: 576, intermediateSize: 1536, vocabSize: 0 },
};
const TOKENS = 4096;
/** Q4_1: 20 bytes for 32 weights; the cache was f32. */
const WEIGHT_BYTES = 20 / 32, CACHE_BYTES = 4;

/** The preset `local` at the time of the measurement. */
const LOCAL = { preset: "local", recent: 64, warmup: 96, kvFusion: "received" } as const;

/** Times of docs/explain/performance.md, of dense: prefill, decode, cache; null where none was measured. */
const MEASURED: readonly (readonly [row: string, MethodOptions, ...(number | null)[]])[] = [
  ["`keys`, half of the keys", { preset: "keys" }, 0.83, 0.69, 0.53],
  ["`keys`, 75% of the keys", { preset: "keys", kvRatio: 0.75 }, 0.71, 0.48, 0.28],
  ["`local`, half of the queries and of the keys", LOCAL, 1.15, 0.55, 0.53],
  ["`learned`, half of the queries", { fusion: "learned" }, 0.77, null, 0.51],
];

/** Lays expected shares out next to measured ones: of operations and of bytes read, and of time. */
export function tabulateMeasured() {
  const dense = expectCost(SHAPE, resolveOptions({ pruneRatio: 0 }), TOKENS);
  const bytes = ({ rowsRead }: ExpectedCost) =>
    weightBytes(SHAPE, WEIGHT_BYTES) + rowsRead * rowBytes(SHAPE, CACHE_BYTES);
  const rows = MEASURED.map(([name, options, ...measured]) => {
    const cost = expectCost(SHAPE, resolveOptions(options), TOKENS);
    const expected = [
      cost.prefillFlops / dense.prefillFlops,
      bytes(cost) / bytes(dense),
      cost.rows / dense.rows,
    ];
    return [name, ...expected.flatMap((share, i) => [share.toFixed(2), measured[i]?.toFixed(2) ?? ""])];
  });
  return {
    columns: [
      "at 4,096 tokens, in % of the full model's",
      ...["prefill: operations", "time", "decode: bytes read", "time", "cache: rows", "bytes allocated"],
    ],
    left: [true],
    rows,
  };
}
