/** The cases that every execution of the filter's recurrence is held to, and the inputs that belong to them. */
import type { LayerSpec, ScanInput } from "../../lib/filter/layer.ts";
import { FILTER_OPTIONS } from "../../lib/filter/options.ts";
import { RULES } from "../../lib/methods/list.ts";
import type { TokenFilterOptions } from "../../lib/methods/options.ts";
import { TokenFilter } from "../../lib/methods/token_filter.ts";
import type { HostTensor } from "../../lib/tensor.ts";
import { normals, tensorOf } from "../filtered_attention/cases.ts";

/** One sequence through one layer. */
export interface FilterCase {
  readonly name: string;
  readonly tokens: number;
  readonly spec: LayerSpec;
  readonly input: ScanInput<HostTensor>;
  /** `learned`: the outcome of each token, were it kept. */
  readonly outcomes: Float64Array<ArrayBuffer>;
}

/** A source of choices, the same on every run. */
function chooser(seed: number) {
  const normal = normals(seed);
  const uniform = () => {
    const x = Math.abs(normal()) * 1000;
    return x - Math.floor(x);
  };
  return {
    normal,
    uniform,
    of: <T>(list: readonly T[]): T => list[Math.floor(uniform() * list.length)]!,
  };
}

const DTYPES = ["f32", "f16", "bf16"] as const;

/** The rules that the kernels have. */
const NATIVE = RULES.filter(({ native }) => native !== undefined);
const POLICIES = FILTER_OPTIONS.threshold.names;

/** Case `i`: rule and policy go round, the rest is drawn. */
export function filterCase(i: number): FilterCase {
  const { normal, uniform, of } = chooser(1000 + i);
  const { name: fusion } = NATIVE[i % NATIVE.length]!;
  const learned = fusion === "learned";
  const threshold = learned ? of(["budget", "window"] as const) : POLICIES[Math.floor(i / 10) % 5]!;
  const options: TokenFilterOptions = {
    fusion,
    threshold,
    tail: 1,
    pruneRatio: of([0.1, 0.3, 0.5, 0.9]),
    invert: uniform() < 0.3,
    tau: of([0, 0.5, 1, 4, 64]),
    lambda: of([0, 0.7]),
    alpha: uniform(),
    anchor: of(FILTER_OPTIONS.anchor.names),
    gamma: of([0, 0.9, 0.99]),
    absorb: learned ? "all" : of(FILTER_OPTIONS.absorb.names),
    warmup: learned ? of([8, 13, 32]) : of([0, 1, 2, 13, 32]),
    window: of([1, 7, 64, 256]),
    theta: of([-0.2, 0.3, 0.6]),
    eta: of([0.1, 1]),
    block: of([1, 5, 32]),
    projections: of([0, 3, 16, 17]),
    ridge: of([0.1, 1]),
    features: of([["similarity", "norm", "projection"], ["norm"], [
      "similarity",
      "norm",
      "projection",
      "query",
    ]]),
    seed: of([0n, 7n, 0xFFFFFFFFFFFFFFFFn]),
  };
  const numKvHeads = of([1, 2, 3, 8]), headDim = of([1, 8, 20, 64]), hiddenSize = of([16, 45]);
  const numHeads = numKvHeads * 2, dtype = of(DTYPES), tokens = 1 + Math.floor(uniform() * 300);
  const shape = { numLayers: 1, numHeads, numKvHeads, headDim, hiddenSize };
  const [first] = new TokenFilter(shape, options).specs;
  const spec = { ...first!, layer: of([0, 3, 29]), chunk: of([0, 5]) };

  const size = numKvHeads * headDim;
  const center = Array.from({ length: size }, normal);
  const noise = of([0.3, 1.5]), hard = of(["plain", "zeros", "repeats"]);
  // A stream about a center that turns slowly; with zero vectors, or with every token four times.
  const stream = (): HostTensor => {
    const rows: Float64Array[] = [];
    for (let t = 0; t < tokens; t++) {
      const copy = hard === "repeats" && t % 4 > 0 ? rows[t - 1] : undefined;
      const zero = hard === "zeros" && uniform() < 0.1;
      rows.push(copy ?? Float64Array.from(center, (c) => zero ? 0 : c * Math.cos(t / 80) + noise * normal()));
    }
    return tensorOf(dtype, [tokens, numKvHeads, headDim], (j) => rows[Math.floor(j / size)]![j % size]!);
  };
  const wide = (width: number) => tensorOf("f32", [tokens, width], normal);
  return {
    name:
      `case ${i}: ${fusion}, ${threshold}, ${spec.anchor}, absorb ${spec.absorb}, warm-up ${spec.warmup}, ` +
      `${dtype}, ${tokens} tokens of ${numKvHeads}x${headDim}, ${hard}`,
    tokens,
    spec,
    input: {
      keys: stream(),
      values: stream(),
      ...learned && {
        residual: wide(hiddenSize),
        normed: wide(hiddenSize),
        queries: wide(numHeads * headDim),
      },
    },
    outcomes: Float64Array.from({ length: tokens }, () => normal() - 1),
  };
}

/** How many cases the tests run: each rule meets each policy three times. */
export const NUM_FILTER_CASES = 150;
