/** The cases that test every execution of the filter's recurrence, and their inputs. */
import { specArgs } from "../../ffi/filter.ts";
import type { DType } from "../../lib/dtype.ts";
import { type LayerSpec, NUM_SLOTS, type ScanInput, stateSizes } from "../../lib/filter/layer.ts";
import { FILTER_OPTIONS } from "../../lib/filter/options.ts";
import { learnedLayout } from "../../lib/methods/rules/learned.ts";
import { RULES } from "../../lib/methods/list.ts";
import type { TokenFilterOptions } from "../../lib/methods/bind/options.ts";
import { TokenFilter } from "../../lib/methods/bind/token_filter.ts";
import { type HostTensor, rowsOf } from "../../lib/tensor.ts";
import { normals, tensorOf } from "../filtered_attention/cases.ts";
import { type Calls, type Draw, FLOATS } from "../testing/fuzz/draw.ts";

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

/** The case with heads of another size and type, and at most 60 tokens. @param scale of keys and values */
export function withHeads(
  c: FilterCase,
  headDim: number,
  dtype: typeof DTYPES[number],
  scale = 1,
): FilterCase {
  const normal = normals(headDim), tokens = Math.min(c.tokens, 60), { numKvHeads } = c.spec;
  const center = Array.from({ length: numKvHeads * headDim }, normal);
  const stream = () =>
    tensorOf(dtype, [c.tokens, numKvHeads, headDim], (j) => scale * (center[j % center.length]! + normal()));
  const name = `${c.name.split(",")[0]}, ${dtype}, ${numKvHeads} heads of ${headDim}, times ${scale}`;
  return {
    ...c,
    name,
    tokens,
    spec: { ...c.spec, headDim },
    input: { ...c.input, keys: stream(), values: stream() },
  };
}

/** A case with more numbers than a block has threads; and with keys and values whose squares float32 does not hold. */
export function extremeCases(c: FilterCase): FilterCase[] {
  const tokens = Math.min(c.tokens, 12), hiddenSize = 1100, normal = normals(7);
  const inputs = Object.entries(c.input).map(([name, x]) => [name, rowsOf(x as HostTensor, 0, tokens)]);
  const short: FilterCase = { ...c, tokens, input: Object.fromEntries(inputs) };
  const rows = () => tensorOf("f32", [tokens, hiddenSize], normal);
  const wide = withHeads(
    {
      ...short,
      spec: { ...short.spec, numKvHeads: 8, hiddenSize },
      input: { ...short.input, ...short.input.residual && { residual: rows(), normed: rows() } },
    },
    256,
    "f32",
  );
  return [wide, withHeads(short, 20, "f32", 1e-20), withHeads(short, 20, "f32", 1e18)];
}

/** A case of `learned` with a local substitute, which only the CPU library has: four query heads per KV head. */
export function localCase(i: number): FilterCase {
  const base = filterCase(NATIVE.length * i + NATIVE.findIndex(({ name }) => name === "learned"));
  const { normal, of } = chooser(5000 + i), { numKvHeads, headDim, reads } = base.spec;
  const recent = of([1, 3, 16]), sinks = of([0, 1, 4]), numHeads = 4 * numKvHeads;
  const spec = {
    ...base.spec,
    ...{ numHeads, substitute: "local", recent, sinks, warmup: recent + sinks + 24 } as const,
    ...{ features: of([16, 17, 31]), reads: [...new Set([...reads, "queries"] as const)] },
  };
  const queries = tensorOf("f32", [base.tokens, numHeads * headDim], () => 4 * normal());
  return {
    ...base,
    name: `local ${i}, recent ${recent}, ${sinks} sinks, features ${spec.features}, ${base.name}`,
    spec,
    input: { ...base.input, queries },
  };
}

/** How many cases the tests run: each rule meets each policy three times. */
export const NUM_FILTER_CASES = 150;

/** A spec, as `tkf_filter_spec` and as a layer's; `learns`: of `learned`. */
export function drawSpec(d: Draw, learns: boolean) {
  const { anchor, absorb } = FILTER_OPTIONS;
  const drawn = {
    ...{ layer: d.below(4), numKvHeads: d.from(1, 3), headDim: d.pick([1, 4, 17, 32]), numHeads: 1 },
    ...{ recent: d.below(9), sinks: d.below(4), substitute: "none" },
    ...{ hiddenSize: d.from(1, 20), chunk: d.below(3), skipRatio: d.odd(0.5), seed: 7n },
    rule: d.pick(NATIVE.filter(({ name }) => (name === "learned") === learns)),
    ...{ invert: d.once(2), anchor: d.pick(anchor.names), absorb: learns ? "all" : d.pick(absorb.names) },
    ...{ warmup: learns ? d.from(8, 13) : d.below(6), threshold: d.pick(POLICIES.slice(0, learns ? 2 : 5)) },
    ...{
      window: d.pick([1, 2, 5, 40]),
      block: d.from(1, 6),
      projections: d.below(20),
      features: d.below(16),
    },
    ...{ tau: d.odd(1), lambda: d.odd(0.5), eps: d.odd(1e-6), alpha: d.odd(0.5), gamma: d.odd(0.9) },
    ...{ theta: d.odd(0.3), eta: d.odd(0.1), ridge: d.odd(1) },
  };
  const layer = drawn as unknown as LayerSpec & typeof drawn, queriesSize = d.from(1, 9);
  return { layer, queriesSize, spec: specArgs(layer, queriesSize) };
}

/** The states of a batch, in the middle of their work; `open`: kept tokens whose outcomes are not known, of the last. */
export function drawStates(d: Draw, spec: ReturnType<typeof drawSpec>["layer"], batch: number) {
  const learns = spec.rule.name === "learned", size = batch * spec.numKvHeads * spec.headDim;
  const { P, length } = learnedLayout(spec), numbers = new Float64Array(NUM_SLOTS * batch);
  const learned = d.doubles(learns ? batch * length : 0);
  let open = 0;
  for (let b = 0; b < batch; b++) {
    // `learned`: a block that began at 0 or at a multiple of `block` past the warm-up, and how far it has come.
    const first = d.once(2) ? 0 : spec.block * (Math.ceil(spec.warmup / spec.block) + d.below(3));
    const pending = learns ? d.below((first === 0 ? spec.warmup : spec.block) + 1) : 0,
      settled = d.below(pending + 1);
    const seen = learns ? first + pending : d.once(2) || spec.threshold === "topk" ? 0 : d.below(50);
    const decided = d.below(seen + 1), scored = d.below(60);
    numbers.set(
      [seen, d.below(seen + 1), scored, decided, d.below(decided + 1), 0.1, d.below(2)],
      b * NUM_SLOTS,
    );
    numbers.set([pending, settled, d.below(2)], b * NUM_SLOTS + 7);
    numbers[b * NUM_SLOTS + d.below(10)] = d.odd(numbers[b * NUM_SLOTS]!);
    for (let i = 0; learns && i < P; i++) learned[(b + 1) * length - P + i] = d.below(3);
    open = pending - settled;
  }
  const scores = d.doubles(batch * stateSizes(spec).scores),
    signs = d.floats(spec.projections * spec.hiddenSize);
  return {
    states: { anchor_k: d.floats(size), anchor_v: d.floats(size), numbers, scores, learned, signs },
    open,
  };
}

/** Inputs of a scan or a step of `rows` tokens. */
export function drawTensors(d: Draw, spec: LayerSpec, queriesSize: number, rows: number, kv_dtype: DType) {
  const size = rows * spec.numKvHeads * spec.headDim;
  return {
    keys: d.values(kv_dtype, size),
    values: d.values(kv_dtype, size),
    residual: d.floats(rows * spec.hiddenSize),
    normed: d.floats(rows * spec.hiddenSize),
    queries: d.floats(rows * queriesSize),
  };
}

export const CALLS: Calls = {
  tkf_filter_scan(d) {
    const { layer, spec, queriesSize } = drawSpec(d, d.once(3)), count = d.size(30, 1);
    const kv_dtype = d.once(2) ? "f32" : d.pick(FLOATS); // only a device takes them
    return {
      ...{ spec, states: drawStates(d, layer, 1).states, count, kv_dtype },
      ...drawTensors(d, layer, queriesSize, count, kv_dtype),
      ...{ keep: new Uint8Array(count), columns: new Float64Array(7 * count), taken: new BigInt64Array(1) },
    };
  },
  tkf_filter_signs(d) {
    const { layer, spec } = drawSpec(d, d.once(2));
    return { spec, signs: d.room("f32", layer.projections * layer.hiddenSize) };
  },
};
