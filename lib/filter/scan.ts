/**
 * The recurrence of Token Filtering over one layer of one sequence, in plain TypeScript: the definition that the
 * native kernels are tested against. Arithmetic in float64, anchors in float32.
 */
import { fromBf16, fromF16 } from "../math/half.ts";
import { mean } from "../math/mean.ts";
import { countOf, expectTensor, f32Data, hostData, type Tensor } from "../tensor.ts";
import {
  type FilterObserve,
  type FilterScan,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
  SLOT,
} from "./layer.ts";
import { RowToken, type TokenRows } from "./rule.ts";
import { absorb, cosines, decayOf, variance } from "./similarity.ts";
import { chooseHighest, openDecisions, policyOf } from "./threshold.ts";

/**
 * Decides tokens in order; see {@linkcode FilterScan}. Per token: cosines with the anchors, their moments, the rule's
 * score, the threshold, then the anchors and the threshold move on.
 *
 * @param input Tensors in this process's memory; `keys` and `values` of f32, f16 or bf16.
 * @throws {TypeError} If a tensor is of another type, keys and values are not alike, or one is on a device.
 * @throws {RangeError} If shapes do not fit, an input is not finite (the tokens before it are then taken), `topk`
 * does not start a sequence, or a rule that learns has outcomes to observe first.
 */
export const scanLayer: FilterScan<Tensor> = (spec, state, input, start, count, output): number => {
  checkScan(spec, state, input, start, count, output);
  const { rule } = spec, { memory } = rule, { numbers } = state;
  const taken = Math.min(count, memory?.room?.(spec, state) ?? count);
  const end = start + taken, tokens = openTokens(spec, state, input, start, end);
  const scorer = memory?.open(spec, state), own = spec as never;
  const decisions = openDecisions(spec, state);

  for (let row = start; row < end; row++) {
    const token = tokens.look(numbers[SLOT.seen]!, row);
    const raw = scorer === undefined ? rule.score!(token, own) : scorer.score(token);
    const score = spec.invert ? -raw : raw;
    const { skip, theta } = decisions.decide(score);
    output.redundancy[row] = score;
    output.keep[row] = skip ? 0 : 1;
    output.threshold[row] = theta;
    output.muK[row] = token.muK;
    output.varK[row] = token.varK;
    output.muV[row] = token.muV;
    output.varV[row] = token.varV;
    output.wK[row] = rule.keyWeight?.(token, own) ?? NaN;
    scorer?.settle?.(skip);
    if (spec.absorb === "all" || !skip) tokens.absorb(row);
  }

  if (policyOf(spec).whole) { // No token was skipped, and all were absorbed, until all are scored.
    const keep = chooseHighest(output.redundancy.subarray(start, end), spec.skipRatio, spec.warmup);
    output.keep.set(keep, start);
    numbers[SLOT.skipped] = keep.reduce((skipped, kept) => skipped + 1 - kept, 0);
  }
  scorer?.close?.();
  return taken;
};

/**
 * Tokens of rows [start, end) of an input that is in this process's memory, and the anchors that follow them.
 *
 * @param isHeld Whether tokens are scored later, when the input may have changed: they then have copies of the rows that
 * the rule reads, and moments where it reads those.
 * @throws {RangeError} If a key or value is not finite.
 */
export function openTokens(
  spec: LayerSpec,
  state: LayerState,
  input: ScanInput<Tensor>,
  start: number,
  end: number,
  isHeld = false,
) {
  const { numbers } = state, size = spec.numKvHeads * spec.headDim;
  const keys = readFloats(input.keys, size, start, end), values = readFloats(input.values, size, start, end);
  const rows = readableRows(spec, input, { key: keys, value: values });
  const measures = !isHeld || spec.reads.includes("similarity");
  const heads = new Float64Array(spec.numKvHeads); // cosines of a token
  return {
    /** Token t, in a row of the input. @throws {RangeError} If a key or value is not finite. */
    look(t: number, row: number): RowToken {
      const token = new RowToken(spec, t, rows, row, input.tokens),
        at = row * size,
        isMeasured = measures && t > 0;
      if (isMeasured) {
        cosines(keys, at, state.anchorK, heads);
        token.muK = mean(heads);
        token.varK = variance(heads, token.muK);
        cosines(values, at, state.anchorV, heads);
        token.muV = mean(heads);
        token.varV = variance(heads, token.muV);
      }
      const total = isMeasured ? token.muK + token.muV : sum(keys, at, size) + sum(values, at, size);
      if (!Number.isFinite(total)) {
        throw new RangeError(
          `Cannot scan layer ${spec.layer}: found a key or value that is not finite at token ${t}, expected finite numbers`,
        );
      }
      if (isHeld) token.hold();
      return token;
    },
    absorb(row: number): void {
      const decay = decayOf(spec, numbers[SLOT.absorbed]!), at = row * size;
      if (measures) absorb(state.anchorK, keys, at, decay);
      if (measures) absorb(state.anchorV, values, at, decay);
      numbers[SLOT.absorbed]! += 1;
    },
  };
}

export const observeLayer: FilterObserve = (spec, state, y) => {
  const { layer, rule: { name, memory } } = spec;
  if (memory?.observe === undefined) {
    throw new RangeError(`Cannot observe layer ${layer}: found the rule "${name}", expected one that learns`);
  }
  memory.observe(spec, state, y);
};

/** Values of a tensor of rows as float32; rows outside [start, end) may be left out (zeros). */
function readFloats(tensor: Tensor, size: number, start: number, end: number): Float32Array {
  const data = hostData(tensor);
  if (data instanceof Float32Array) return data;
  const decode = tensor.dtype === "f16" ? fromF16 : fromBf16;
  const out = new Float32Array(end * size);
  for (let i = start * size; i < out.length; i++) out[i] = decode(data[i]!);
  return out;
}

function readableRows(
  { reads, numKvHeads, headDim }: LayerSpec,
  input: ScanInput<Tensor>,
  own: { readonly key: Float32Array; readonly value: Float32Array },
): { readonly [name: string]: TokenRows } {
  return Object.fromEntries(reads.flatMap((name): [string, TokenRows][] => {
    if (name === "key" || name === "value") return [[name, { data: own[name], width: numKvHeads * headDim }]];
    if (name !== "residual" && name !== "normed" && name !== "queries") return [];
    return [[name, { data: f32Data(input[name]!), width: input[name]!.shape[1]! }]];
  }));
}

/** A sum to tell whether all numbers are finite. */
function sum(x: Float32Array, from: number, size: number): number {
  let total = 0;
  for (let i = from; i < from + size; i++) total += x[i]!;
  return total;
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
  const widths = { residual: spec.hiddenSize, normed: spec.hiddenSize, queries: -1 };
  for (const [name, width] of Object.entries(widths) as [keyof typeof widths, number][]) {
    if (!spec.reads.includes(name)) continue;
    const tensor = input[name];
    if (tensor === undefined || countOf(tensor.shape) === 0) {
      throw new TypeError(
        `Cannot use the rule "${spec.rule.name}": found no "${name}", expected a tensor of f32`,
      );
    }
    expectTensor(name, tensor, "f32", [rows, width]);
  }
  const room = Math.min(rows, output.keep.length), end = start + count, { layer, threshold } = spec;
  if (!Number.isInteger(start) || !Number.isInteger(count) || start < 0 || count < 1 || end > room) {
    throw new RangeError(
      `Cannot scan rows [${start}, ${end}) of layer ${layer}: expected at least one of [0, ${room})`,
    );
  }
  const seen = state.numbers[SLOT.seen]!;
  if (policyOf(spec).whole && seen > 0) {
    const expected = `expected none, since "${threshold}" looks at a whole sequence at once`;
    throw new RangeError(`Cannot scan layer ${layer}: found ${seen} tokens before, ${expected}`);
  }
}
