/** Synthetic streams and random specifications for tests; the same on every run. */
import { type HostTensor, hostTensor } from "../tensor.ts";
import { type OwnOptions, type RuleName, RULES } from "../methods/list.ts";
import { OPTIONS } from "../methods/bind/option_table.ts";
import { readsOf, type ResolvedOptions, resolveOptions } from "../methods/bind/options.ts";
import type { LayerSpec } from "./layer.ts";
import type { Packed } from "./option.ts";
import { FILTER_OPTIONS } from "./options.ts";

/** Uniform numbers in [0, 1): mulberry32. */
export function uniform(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6D2B79F5) >>> 0;
    let z = Math.imul(s ^ (s >>> 15), s | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A stream of T tokens of one layer. */
export interface Stream {
  readonly keys: HostTensor;
  readonly values: HostTensor;
  readonly residual: HostTensor;
  readonly normed: HostTensor;
  readonly queries: HostTensor;
  /** Norms of the attention's output, [T]. */
  readonly outputNorms: Float64Array<ArrayBuffer>;
  readonly residualNorms: Float64Array<ArrayBuffer>;
}

/** Sizes and temper of a {@linkcode makeStream}. */
export interface StreamOptions {
  readonly count: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly hiddenSize: number;
  /** How far the stream's centre moves from its first token to its last. Default 1. */
  readonly drift?: number;
  /** Spread of tokens about the centre. Default 1. */
  readonly noise?: number;
}

/** A stream whose centre drifts and whose noise differs by token; numHeads = 2 * numKvHeads. */
export function makeStream(seed: number, options: StreamOptions): Stream {
  const { count, numKvHeads, headDim, hiddenSize, drift = 1, noise = 1 } = options;
  const next = uniform(seed);
  const normal = () => next() + next() + next() + next() - 2;
  const rows = (shape: readonly number[]): HostTensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    const base = Float64Array.from({ length: size }, normal), slope = base.map(normal);
    const data = new Float32Array(count * size);
    for (let t = 0; t < count; t++) {
      const spread = noise * (0.25 + next());
      for (let i = 0; i < size; i++) {
        data[t * size + i] = base[i]! + slope[i]! * drift * (t / count) + spread * normal();
      }
    }
    return hostTensor("f32", [count, ...shape], data);
  };
  const keys = rows([numKvHeads, headDim]), values = rows([numKvHeads, headDim]);
  const residual = rows([hiddenSize]), normed = rows([hiddenSize]);
  const queries = rows([2 * numKvHeads * headDim]);
  const h = normed.data as Float32Array, x = residual.data as Float32Array;
  const outputNorms = Float64Array.from(
    { length: count },
    (_, t) => (0.1 + Math.abs(h[t * hiddenSize]!)) * (0.5 + next()),
  );
  const residualNorms = Float64Array.from(
    { length: count },
    (_, t) => Math.hypot(...x.subarray(t * hiddenSize, (t + 1) * hiddenSize)),
  );
  return { keys, values, residual, normed, queries, outputNorms, residualNorms };
}

/** A specification with all options of all rules. */
export type TestSpec = LayerSpec & Packed<OwnOptions> & { readonly fusion: RuleName };

/** A specification for tests, with the toolkit's defaults but for few projections. */
export function makeSpec(options: Partial<Omit<TestSpec, "rule" | "reads">> = {}): TestSpec {
  const { fusion = "variance", features = 7 } = options, rule = RULES.find(({ name }) => name === fusion)!;
  const { names } = OPTIONS.features as { readonly names: ResolvedOptions["features"] };
  const asked = { ...resolveOptions(), features: names.filter((_, i) => (features >> i) & 1) };
  return {
    ...asked,
    layer: 0,
    numHeads: 2 * (options.numKvHeads ?? 2),
    numKvHeads: 2,
    headDim: 4,
    hiddenSize: 12,
    skipRatio: 0.5,
    chunk: 0,
    projections: 4,
    ...options,
    features,
    fusion,
    rule,
    reads: readsOf(rule, asked),
  };
}

/** A specification drawn at random, of a given rule or of any; always one that the method defines. */
export function drawSpec(next: () => number, rule?: RuleName): TestSpec {
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(next() * choices.length)]!;
  const fusion = rule ?? pick(RULES).name;
  const learned = fusion === "learned";
  return makeSpec({
    fusion,
    layer: pick([0, 3, 39]),
    numKvHeads: pick([1, 2, 3, 8]),
    headDim: pick([1, 4, 7, 16]),
    skipRatio: pick([0, 0.1, 0.3, 0.5, 0.7, 0.95, 1]),
    invert: next() < 0.2,
    tau: pick([0, 0.5, 1, 4, 64]),
    lambda: pick([0, 0, 0.5, 2]),
    alpha: next(),
    anchor: pick(FILTER_OPTIONS.anchor.names),
    gamma: pick([0, 0.5, 0.9, 0.99]),
    absorb: learned ? "all" : pick(FILTER_OPTIONS.absorb.names),
    warmup: learned ? pick([8, 12, 32, 40]) : pick([0, 1, 2, 8, 32]),
    threshold: learned ? pick(["budget", "window"] as const) : pick(FILTER_OPTIONS.threshold.names),
    window: pick([1, 2, 16, 64, 256]),
    theta: next() - 0.25,
    eta: pick([0.01, 0.1, 1]),
    seed: pick([0n, 1n, 18446744073709551615n]),
    chunk: pick([0, 0, 5]),
    block: pick([1, 5, 16, 32]),
    ridge: pick([0.1, 1, 10]),
    projections: pick([0, 1, 4]),
    features: 1 + Math.floor(next() * 15),
  });
}
