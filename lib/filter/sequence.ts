/** The recurrence for a model: a specification a filtered layer, and the state of one sequence. */
import type { Backend } from "../backend.ts";
import { expectInstance, expectInteger, expectTypeOf } from "../errors.ts";
import { hostTensor, type Tensor } from "../tensor.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type FilterObserve,
  type FilterScan,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
  SLOT,
} from "./layer.ts";
import type { FilterOptions } from "./options.ts";
import { allocate, noteOutcome, outcomesOf } from "./allocation.ts";
import { firstOutcome, outcomeOf } from "./outcome.ts";
import type { FilterShape, Reads, Rule } from "./rule.ts";
import { observeLayer, scanLayer } from "./scan.ts";
import { planLayers, type SideName, unplannedLayer } from "./schedule.ts";
import { HOST_SLOT } from "./slots.ts";
import { policyOf } from "./threshold.ts";

export type { FilterShape } from "./rule.ts";

/** @internal The parts of a backend that the filter needs. */
export type FilterBackend = Pick<Backend, "kvFilterScan" | "kvFilterObserve" | "knowsLocal" | "read">;

export interface FilterOps {
  readonly scan: FilterScan<Tensor>;
  readonly observe: FilterObserve;
}

/** The recurrence of a rule: the backend's own where the kernels have the rule, else in TypeScript on the host. */
export function filterOps({ native }: Rule, backend?: FilterBackend): FilterOps {
  if (backend === undefined) return { scan: scanLayer, observe: observeLayer };
  expectTypeOf("backend", backend, "object");
  expectTypeOf("kvFilterScan of the backend", backend.kvFilterScan, "function");
  if (native !== undefined) return { scan: backend.kvFilterScan, observe: backend.kvFilterObserve };
  const here = ({ tokens, ...input }: ScanInput<Tensor>) => ({
    ...Object.fromEntries(Object.entries(input).map(([name, tensor]) => [name, backend.read(tensor)])),
    tokens,
  } as unknown as ScanInput<Tensor>);
  return {
    scan: (spec, state, input, ...rows) => scanLayer(spec, state, here(input), ...rows),
    observe: observeLayer,
  };
}

/** @internal Rows of numbers: a tensor, or its values in row-major order. */
export type Rows = Tensor | Float32Array<ArrayBuffer>;

/** @internal Inputs of rules besides keys and values; see {@linkcode ScanInput} for shapes. */
export type LearnedInput = Omit<ScanInput<Rows>, "keys" | "values">;

/** Decisions on `taken` tokens, one row each. */
export interface FilterDecisions extends ScanOutput {
  /** Tokens decided, at least 1. */
  readonly taken: number;
}

/** The filter's state for one sequence, and its decisions; made by `TokenFilter.start`. */
export class FilterSequence {
  readonly #shape: FilterShape;
  #specs: readonly LayerSpec[];
  readonly #ops: FilterOps;
  readonly #states: readonly LayerState[];
  /** Whether the ratios of the specs are still to be set, after all layers have computed the warm-up. */
  #allocates: boolean;
  /** Room for a scan's output, reused while large enough. */
  #output: ScanOutput = createScanOutput(0);

  /** Use `TokenFilter.start`. */
  constructor(
    shape: FilterShape,
    specs: readonly LayerSpec[],
    ops: FilterOps,
    states: readonly LayerState[] = specs.map(createLayerState),
  ) {
    this.#shape = shape;
    this.#specs = specs;
    this.#ops = ops;
    this.#states = states;
    this.#allocates = specs.some(({ schedule }) => schedule === "allocated");
  }

  /** Its states, one per filtered layer, in their order. Shared, not copied. */
  get states(): readonly LayerState[] {
    return this.#states;
  }

  /**
   * Decides one token of a filtered layer, the next one. Where it is skipped, its key and value must still stay visible
   * to the next `recent` tokens, as described at `TokenFilter`.
   *
   * @param k Its keys, [H, d]: numbers, or a tensor [1, H, d] of f32, f16 or bf16.
   * @param v Its values, like `k`.
   * @param extra Further inputs of the rule, one row each.
   * @returns One row.
   * @throws {RangeError} If the policy is `topk`, which looks at a whole sequence at once; else as `scan`.
   */
  step(layer: number, k: Rows, v: Rows, extra: LearnedInput = {}): FilterDecisions {
    const spec = this.#specs[this.#indexOf(layer)]!;
    if (policyOf(spec).whole) {
      throw new RangeError(
        `Cannot step layer ${layer}: the policy "${spec.threshold}" looks at a whole sequence at once, expected scan()`,
      );
    }
    const input = this.#input(k, v, extra);
    if (input.keys.shape[0] !== 1) {
      throw new RangeError(`Cannot step layer ${layer}: found ${input.keys.shape[0]} tokens, expected 1`);
    }
    return this.#decide(layer, input, 0);
  }

  /**
   * Decides the next tokens of a filtered layer, rows [start, T) of the input. A rule that learns stops where its block
   * ends: observe the kept tokens, then scan again from `start + taken` on. Every other rule takes all.
   *
   * @param keys Keys, [T, H, d]: numbers, or a tensor of f32, f16 or bf16.
   * @param values Values, like `keys`.
   * @param extra Further inputs of the rule, T rows each.
   * @returns `taken` rows. NaN = undefined.
   * @throws {TypeError} If a tensor is of the wrong type, or one that the rule reads is missing.
   * @throws {RangeError} If the layer is not filtered, a shape does not fit, a number is not finite, or `topk` is asked
   * to continue. Also if a rule that learns has outcomes to observe first.
   */
  scan(layer: number, keys: Rows, values: Rows, extra: LearnedInput = {}, start = 0): FilterDecisions {
    return this.#decide(layer, this.#input(keys, values, extra), start);
  }

  /** As {@linkcode scan}, but returns only the decisions, one entry for each token taken. @internal */
  keep(layer: number, keys: Rows, values: Rows, extra: LearnedInput, start: number): Uint8Array<ArrayBuffer> {
    const taken = this.#take(layer, this.#input(keys, values, extra), start);
    return this.#output.keep.slice(start, start + taken);
  }

  /**
   * For a rule that learns, or the schedule `allocated`: observes outcomes of the attention of kept tokens. Kept tokens
   * of the current block that were not observed yet come in order, all or the first of them.
   *
   * @param outputNorms norm(o) of each, o = the attention block's output after its projection, float64; with a substitute
   * norm(o - substitute).
   * @param residualNorms norm(x) of each, x = the residual stream before the block, float64.
   * @throws {RangeError} If there are more than kept tokens, or a norm is negative or not finite.
   */
  observe(
    layer: number,
    outputNorms: Float64Array<ArrayBuffer>,
    residualNorms: Float64Array<ArrayBuffer>,
  ): void {
    const index = this.#indexOf(layer);
    expectInstance("outputNorms", outputNorms, Float64Array);
    expectInstance("residualNorms", residualNorms, Float64Array);
    if (outputNorms.length !== residualNorms.length) {
      throw new RangeError(
        `Cannot observe layer ${layer}: found ${outputNorms.length} and ${residualNorms.length} norms, expected as ` +
          `many of either`,
      );
    }
    const spec = this.#specs[index]!, state = this.#states[index]!;
    const y = outputNorms.map((o, i) => outcomeOf(spec, o, residualNorms[i]!));
    if (!outputNorms.every((o) => o >= 0) || !y.every(Number.isFinite)) {
      throw new RangeError(`Cannot observe layer ${layer}: found a norm that is negative or not finite`);
    }
    if (this.#allocates) {
      for (const outcome of y) {
        const t = state.numbers[HOST_SLOT.outcomes]!;
        if (t < spec.warmup) noteOutcome(state, outcome, t >= firstOutcome(spec));
      }
    }
    const isOfScheduleAlone = spec.schedule === "allocated" && spec.rule.memory?.observe === undefined;
    if (!isOfScheduleAlone) this.#ops.observe(spec, state, y);
  }

  /** An independent copy, to branch a sequence. */
  fork(): FilterSequence {
    const copy = new FilterSequence(this.#shape, this.#specs, this.#ops, this.#states.map(cloneLayerState));
    copy.#allocates = this.#allocates;
    return copy;
  }

  /** Sets the ratio of every layer from the outcomes of the warm-up. */
  #allocate(layer: number): void {
    const open = this.#states.findIndex(({ numbers }, i) =>
      numbers[HOST_SLOT.outcomes]! < this.#specs[i]!.warmup
    );
    if (open >= 0) {
      const count = this.#states[open]!.numbers[HOST_SLOT.outcomes];
      const found = `${count} outcomes of layer ${this.#specs[open]!.layer}`;
      const expected = "those of the warm-up in all layers first, since the schedule is allocated";
      throw new RangeError(`Cannot scan layer ${layer}: found ${found}, expected ${expected}`);
    }
    const asked = this.#specs.reduce((sum, { skipRatio }) => sum + skipRatio, 0) / this.#specs.length;
    const ratios = allocate(this.#states.map(outcomesOf), asked);
    this.#specs = this.#specs.map((spec, i) => ({ ...spec, skipRatio: ratios[i]! }));
    this.#allocates = false;
  }

  #indexOf(layer: number): number {
    const index = this.#specs.findIndex((spec) => spec.layer === layer);
    if (index < 0) throw unplannedLayer(layer, this.#specs.map((spec) => spec.layer));
    return index;
  }

  #input(k: Rows, v: Rows, extra: LearnedInput): ScanInput<Tensor> {
    const { numHeads, numKvHeads, headDim, hiddenSize } = this.#shape;
    const input: { -readonly [name in keyof ScanInput<Tensor>]: ScanInput<Tensor>[name] } = {
      keys: asTensor("keys", k, [numKvHeads, headDim]),
      values: asTensor("values", v, [numKvHeads, headDim]),
    };
    const { residual, normed, queries, tokens } = extra;
    if (tokens !== undefined) input.tokens = tokens;
    if (residual !== undefined) input.residual = asTensor("residual", residual, [hiddenSize]);
    if (normed !== undefined) input.normed = asTensor("normed", normed, [hiddenSize]);
    if (queries !== undefined) input.queries = asTensor("queries", queries, [numHeads * headDim]);
    return input;
  }

  #decide(layer: number, input: ScanInput<Tensor>, start: number): FilterDecisions {
    const taken = this.#take(layer, input, start);
    return { taken, ...rowsOfOutput(this.#output, start, start + taken) };
  }

  /** Decides rows from `start` on, whose results are then in the output; gives how many. */
  #take(layer: number, input: ScanInput<Tensor>, start: number): number {
    const index = this.#indexOf(layer), total = input.keys.shape[0]!;
    const { warmup } = this.#specs[index]!, seen = this.#states[index]!.numbers[SLOT.seen]!;
    if (this.#allocates && seen >= warmup) this.#allocate(layer);
    const count = this.#allocates ? Math.min(total - start, warmup - seen) : total - start;
    if (this.#output.keep.length < total) this.#output = createScanOutput(total);
    return this.#ops.scan(this.#specs[index]!, this.#states[index]!, input, start, count, this.#output);
  }
}

/** A copy of rows [start, end) of a scan's output, written out: a decode asks for it in every layer. */
function rowsOfOutput(output: ScanOutput, start: number, end: number): ScanOutput {
  return {
    redundancy: output.redundancy.slice(start, end),
    keep: output.keep.slice(start, end),
    threshold: output.threshold.slice(start, end),
    muK: output.muK.slice(start, end),
    varK: output.varK.slice(start, end),
    muV: output.muV.slice(start, end),
    varV: output.varV.slice(start, end),
    wK: output.wK.slice(start, end),
  };
}

/** Values in row-major order as a tensor of rows of the given shape; a tensor as it is. */
function asTensor(name: string, rows: Rows, shape: readonly number[]): Tensor {
  if (typeof rows === "object" && rows !== null && "dtype" in rows) return rows;
  expectInstance(name, rows, Float32Array, " or a tensor");
  const width = shape.reduce((a, b) => a * b, 1);
  if (rows.length === 0 || rows.length % width !== 0) {
    const expected = `a multiple of ${width} (${shape.join(" x ")})`;
    throw new RangeError(`Cannot use "${name}": found ${rows.length} numbers, expected ${expected}`);
  }
  return hostTensor("f32", [rows.length / width, ...shape], rows);
}

/** Checks a model's sizes. @throws {TypeError | RangeError} If one is none, or heads cannot share keys and values evenly. */
export function expectShape(shape: FilterShape): FilterShape {
  expectTypeOf("shape", shape, "object");
  for (const name of ["numLayers", "numHeads", "numKvHeads", "headDim", "hiddenSize"] as const) {
    expectInteger(name, shape[name], 1);
  }
  const { numHeads, numKvHeads } = shape;
  if (numHeads % numKvHeads !== 0) {
    throw new RangeError(
      `Cannot filter a model: found ${numHeads} for "numHeads", expected a multiple of numKvHeads, ${numKvHeads}`,
    );
  }
  return shape;
}

/** A specification for every layer of the plan. @throws {TypeError | RangeError} If a size is wrong, or the schedule unreachable. */
export function createSpecs<Own>(
  shape: FilterShape,
  rule: Rule<Own>,
  reads: readonly Reads[],
  options: FilterOptions & Own,
  side: SideName,
): LayerSpec[] {
  const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, retrieval } = expectShape(shape);
  const sizes = { numHeads, numKvHeads, headDim, hiddenSize };
  return planLayers(numLayers, options, side, retrieval).map((planned) => ({
    ...options,
    ...sizes,
    ...planned,
    chunk: 0,
    rule,
    reads,
  }));
}
