/**
 * The recurrence of Token Filtering over one layer of one sequence, in plain TypeScript: the definition that the
 * native kernels are tested against. Arithmetic in float64, anchors in float32.
 */
import { fromBf16, fromF16 } from "../half.ts";
import { countOf, expectTensor, f32Data, hostData, type Tensor } from "../tensor.ts";
import { absorb, decayOf } from "./anchor.ts";
import { FUSION } from "./fusion.ts";
import {
  type FilterScan,
  hasFeature,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
  SLOT,
} from "./layer.ts";
import { fitIfComplete, type LearnedRows, Learner, roomInBlock } from "./learned.ts";
import { cosines, mean, type Moments, variance } from "./similarity.ts";
import { chooseHighest, firstDecided, openThreshold } from "./threshold.ts";

/**
 * Decides tokens in order; see {@linkcode FilterScan} and method.md for what each step means. Per token: cosines
 * with the anchors, their moments, the fused score, the threshold, then the anchors and the threshold move on.
 *
 * @param input Tensors in this process's memory; `keys` and `values` of f32, f16 or bf16.
 * @throws {TypeError} If a tensor is of another type, keys and values are not alike, or one is on a device.
 * @throws {RangeError} If shapes do not fit, an input is not finite (the tokens before it are then taken), `topk`
 * does not start a sequence, or `learned` has outcomes to observe first.
 *
 * @example
 * ```ts
 * import { createLayerState, createScanOutput, hostTensor, scanLayer, TokenFilter } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 2 };
 * const options = { fusion: "key", threshold: "fixed", theta: 0.5, warmup: 0, pruneRatio: 0.5, tail: 1 } as const;
 * const [spec] = new TokenFilter(shape, options).specs;
 * const keys = hostTensor("f32", [3, 1, 2], new Float32Array([1, 0, 0, 1, 1, 0]));
 * const output = createScanOutput(3);
 * scanLayer(spec!, createLayerState(spec!), { keys, values: keys }, 0, 3, output);
 * console.assert(output.keep.join("") === "110"); // the third key resembles the first, the second does not
 * ```
 */
export const scanLayer: FilterScan<Tensor> = (spec, state, input, start, count, output): number => {
  checkScan(spec, state, input, start, count, output);
  const taken = spec.fusion === "learned" ? Math.min(count, roomInBlock(spec, state)) : count;
  const { numbers } = state;
  const size = spec.numKvHeads * spec.headDim, end = start + taken;
  const keys = readFloats(input.keys, size, start, end), values = readFloats(input.values, size, start, end);
  const learner = spec.fusion === "learned"
    ? new Learner(spec, state, learnedRows(spec, input, keys, values))
    : undefined;
  const threshold = openThreshold(spec, state);
  const looksAhead = spec.threshold === "topk"; // no token is skipped, and all are absorbed, until all are scored
  const heads = new Float64Array(spec.numKvHeads);
  const moments: Moments = { muK: 0, varK: 0, muV: 0, varV: 0 };

  for (let row = start; row < end; row++) {
    const t = numbers[SLOT.seen]!, at = row * size;
    if (t > 0) {
      measure(moments, heads, state, keys, values, at);
    }
    expectFinite(spec, t, t > 0 ? moments.muK + moments.muV : sum(keys, at, size) + sum(values, at, size));
    const score = scoreOf(spec, learner, moments, row, t);
    const theta = threshold.next();
    const decided = t >= firstDecided(spec.warmup);
    const skip = decided && score > theta;

    record(spec, output, row, t > 0 ? moments : undefined, score, skip, theta);
    numbers[SLOT.seen] = t + 1;
    if (decided) numbers[SLOT.decided]! += 1;
    if (skip) numbers[SLOT.skipped]! += 1;
    if (!Number.isNaN(score)) threshold.push(score);
    learner?.settle(skip);
    if (spec.absorb === "all" || !skip) {
      const decay = decayOf(spec, numbers[SLOT.absorbed]!);
      absorb(state.anchorK, keys, at, decay);
      absorb(state.anchorV, values, at, decay);
      numbers[SLOT.absorbed]! += 1;
    }
  }

  if (looksAhead) {
    const keep = chooseHighest(output.redundancy.subarray(start, end), spec.skipRatio, spec.warmup);
    output.keep.set(keep, start);
    numbers[SLOT.skipped] = keep.reduce((skipped, kept) => skipped + 1 - kept, 0);
  }
  if (learner !== undefined) fitIfComplete(spec, state);
  return taken;
};

/** Moments of the token at offset `at`; `heads` is scratch for one cosine a head. */
function measure(
  moments: Moments,
  heads: Float64Array,
  { anchorK, anchorV }: LayerState,
  keys: Float32Array,
  values: Float32Array,
  at: number,
): void {
  cosines(keys, at, anchorK, heads);
  moments.muK = mean(heads);
  moments.varK = variance(heads, moments.muK);
  cosines(values, at, anchorV, heads);
  moments.muV = mean(heads);
  moments.varV = variance(heads, moments.muV);
}

/** Redundancy S of a token; NaN where it has none. */
function scoreOf(
  spec: LayerSpec,
  learner: Learner | undefined,
  moments: Moments,
  row: number,
  t: number,
): number {
  let score = NaN;
  if (learner !== undefined) score = learner.score(row, moments);
  else if (spec.fusion !== "learned" && t > 0) score = FUSION[spec.fusion].score(moments, spec, t);
  return spec.invert ? -score : score;
}

/** Writes one row of the output; no moments = the first token of a sequence. */
function record(
  spec: LayerSpec,
  output: ScanOutput,
  row: number,
  moments: Moments | undefined,
  score: number,
  skip: boolean,
  theta: number,
): void {
  output.redundancy[row] = score;
  output.keep[row] = skip ? 0 : 1;
  output.threshold[row] = theta;
  output.muK[row] = moments?.muK ?? NaN;
  output.varK[row] = moments?.varK ?? NaN;
  output.muV[row] = moments?.muV ?? NaN;
  output.varV[row] = moments?.varV ?? NaN;
  output.wK[row] = spec.fusion === "learned" ? NaN : FUSION[spec.fusion].keyWeight(moments, spec);
}

/** Values of a tensor of rows as float32; rows outside [start, end) may be left out (zeros). */
function readFloats(tensor: Tensor, size: number, start: number, end: number): Float32Array {
  const data = hostData(tensor);
  if (data instanceof Float32Array) return data;
  const decode = tensor.dtype === "f16" ? fromF16 : fromBf16;
  const out = new Float32Array(end * size);
  for (let i = start * size; i < out.length; i++) out[i] = decode(data[i]!);
  return out;
}

function learnedRows(
  spec: LayerSpec,
  input: ScanInput<Tensor>,
  keys: Float32Array,
  values: Float32Array,
): LearnedRows {
  const queries = hasFeature(spec, "query") ? input.queries : undefined;
  return {
    keys,
    values,
    residual: f32Data(input.residual!),
    normed: f32Data(input.normed!),
    queries: queries && f32Data(queries),
    queriesSize: queries === undefined ? 0 : queries.shape[1]!,
  };
}

function sum(x: Float32Array, from: number, size: number): number {
  let sum = 0;
  for (let i = from; i < from + size; i++) sum += x[i]!;
  return sum;
}

function expectFinite(spec: LayerSpec, t: number, value: number): void {
  if (!Number.isFinite(value)) {
    throw new RangeError(
      `Cannot scan layer ${spec.layer}: found a key or value that is not finite at token ${t}, expected finite numbers`,
    );
  }
}

/** Checks the arguments of a scan, all before the state changes. */
function checkScan(
  spec: LayerSpec,
  state: LayerState,
  input: ScanInput<Tensor>,
  start: number,
  count: number,
  output: ScanOutput,
): void {
  const rows = input.keys.shape[0] ?? 0;
  expectTensor("keys", input.keys, ["f32", "f16", "bf16"], [rows, spec.numKvHeads, spec.headDim]);
  expectTensor("values", input.values, input.keys.dtype, [rows, spec.numKvHeads, spec.headDim]);
  if (spec.fusion === "learned") {
    checkFeature("residual", input.residual, [rows, spec.hiddenSize]);
    checkFeature("normed", input.normed, [rows, spec.hiddenSize]);
    if (hasFeature(spec, "query")) checkFeature("queries", input.queries, [rows, -1]);
  }
  const room = Math.min(rows, output.keep.length);
  if (
    !Number.isInteger(start) || !Number.isInteger(count) || start < 0 || count < 1 || start + count > room
  ) {
    throw new RangeError(
      `Cannot scan rows [${start}, ${
        start + count
      }) of layer ${spec.layer}: expected at least one of [0, ${room})`,
    );
  }
  if (spec.threshold === "topk" && state.numbers[SLOT.seen]! > 0) {
    throw new RangeError(
      `Cannot scan layer ${spec.layer}: found ${
        state.numbers[SLOT.seen]
      } tokens before, expected none, since "topk" looks at a whole sequence at once`,
    );
  }
}

function checkFeature(name: string, tensor: Tensor | undefined, shape: readonly number[]): void {
  if (tensor === undefined || countOf(tensor.shape) === 0) {
    throw new TypeError(`Cannot use the rule "learned": found no "${name}", expected a tensor of f32`);
  }
  expectTensor(name, tensor, "f32", shape);
}
