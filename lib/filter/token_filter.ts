/** Token Filtering for a model: options bound to its shape, and the state of one sequence. */
import { hostTensor, type Tensor } from "../tensor.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  FEATURE_GROUPS,
  type FilterObserve,
  type FilterScan,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
} from "./layer.ts";
import { observeLayer, outcomeOf } from "./learned.ts";
import { type ResolvedOptions, resolveOptions, type TokenFilterOptions } from "./options.ts";
import { scanLayer } from "./scan.ts";
import { planLayers } from "./schedule.ts";

/** What the filter must know of a model. All whole numbers, at least 1. */
export interface FilterShape {
  /** Layers. */
  readonly numLayers: number;
  /** Query heads. */
  readonly numHeads: number;
  /** Heads of keys and values, H. */
  readonly numKvHeads: number;
  /** Head dimension, d. */
  readonly headDim: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
}

/** Who computes the recurrence: the reference unless a backend's own functions are given. */
export interface FilterOps {
  /** A backend's `kvFilterScan`. */
  readonly scan?: FilterScan<Tensor>;
  /** A backend's `kvFilterObserve`. */
  readonly observe?: FilterObserve;
}

/** Rows of numbers: a tensor, or its values in row-major order. */
export type Rows = Tensor | Float32Array<ArrayBuffer>;

/** What `learned` reads besides keys and values; see {@linkcode ScanInput} for shapes. */
export interface LearnedInput {
  /** Residual stream before the attention block, [T, hiddenSize] f32. */
  readonly residual?: Rows;
  /** The attention's input after its RMSNorm, [T, hiddenSize] f32. */
  readonly normed?: Rows;
  /** With the `query` feature: queries, [T, numHeads * headDim] f32. */
  readonly queries?: Rows;
}

/** Decisions on `taken` tokens, one row each. */
export interface FilterDecisions extends ScanOutput {
  /** Tokens decided, at least 1. */
  readonly taken: number;
}

/**
 * The method, bound to a model's shape: which layers are filtered, and how.
 *
 * @example
 * ```ts
 * import { TokenFilter } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
 * const filter = new TokenFilter(shape, { pruneRatio: 0.25, tail: 0.5, warmup: 1 });
 * console.assert(filter.layers.join() === "2,3" && filter.specs[0]!.skipRatio === 0.5);
 *
 * const sequence = filter.start();
 * const first = sequence.step(2, new Float32Array([1, 0]), new Float32Array([0, 1]));
 * console.assert(first.keep[0] === 1 && Number.isNaN(first.redundancy[0])); // nothing to compare with yet
 * const second = sequence.step(2, new Float32Array([2, 0]), new Float32Array([0, 3]));
 * console.assert(second.redundancy[0] === 1); // keys and values point where the first ones did
 * ```
 */
export class TokenFilter {
  /** The model's sizes. */
  readonly shape: FilterShape;
  /** All options, defaults filled in. */
  readonly options: ResolvedOptions;
  /** One specification per filtered layer, in the order of `layers`. */
  readonly specs: readonly LayerSpec[];
  readonly #ops: Required<FilterOps>;

  /**
   * Binds options to a model's shape.
   *
   * @param shape The model's sizes.
   * @param options Everything may be left out.
   * @param ops Functions of a backend, to compute there.
   * @throws {TypeError} If an option is unknown or of the wrong type.
   * @throws {RangeError} If a size or an option is out of range, or the schedule is unreachable.
   */
  constructor(shape: FilterShape, options: TokenFilterOptions = {}, ops: FilterOps = {}) {
    this.shape = expectShape(shape);
    this.options = resolveOptions(options);
    this.specs = specsOf(shape, this.options);
    this.#ops = { scan: ops.scan ?? scanLayer, observe: ops.observe ?? observeLayer };
  }

  /** 0-based indices of the filtered layers, ascending. */
  get layers(): readonly number[] {
    return this.specs.map((spec) => spec.layer);
  }

  /** Starts a sequence; `chunk` is its 0-based index in a text that is scored in chunks (`random` reads it). */
  start({ chunk = 0 }: { readonly chunk?: number } = {}): FilterSequence {
    if (!Number.isSafeInteger(chunk) || chunk < 0 || chunk > 0x7fffffff) {
      throw new RangeError(`Cannot start chunk ${chunk}: expected an integer from 0 to ${0x7fffffff}`);
    }
    const specs = chunk === 0 ? this.specs : this.specs.map((spec) => ({ ...spec, chunk }));
    return new FilterSequence(this.shape, specs, this.#ops);
  }
}

/** What the filter remembers of one sequence, and its decisions; made by {@linkcode TokenFilter.start}. */
export class FilterSequence {
  readonly #shape: FilterShape;
  readonly #specs: readonly LayerSpec[];
  readonly #ops: Required<FilterOps>;
  readonly #states: readonly LayerState[];
  /** Room for a scan's output, reused while large enough. */
  #output: ScanOutput = createScanOutput(0);

  /** Use {@linkcode TokenFilter.start}. */
  constructor(
    shape: FilterShape,
    specs: readonly LayerSpec[],
    ops: Required<FilterOps>,
    states: readonly LayerState[] = specs.map(createLayerState),
  ) {
    this.#shape = shape;
    this.#specs = specs;
    this.#ops = ops;
    this.#states = states;
  }

  /** What it remembers, one state per filtered layer, in their order. Shared, not copied. */
  get states(): readonly LayerState[] {
    return this.#states;
  }

  /**
   * Decides one token of a filtered layer, the next one.
   *
   * @param k Its keys, [H, d]: numbers, or a tensor [1, H, d] of f32, f16 or bf16.
   * @param v Its values, like `k`.
   * @param extra For `learned`, one row each.
   * @returns One row.
   * @throws {RangeError} If the policy is `topk`, which looks at a whole sequence at once; else as `scan`.
   */
  step(layer: number, k: Rows, v: Rows, extra: LearnedInput = {}): FilterDecisions {
    if (this.#specs[this.#indexOf(layer)]!.threshold === "topk") {
      throw new RangeError(
        `Cannot step layer ${layer}: the policy "topk" looks at a whole sequence at once, expected scan()`,
      );
    }
    const input = this.#input(k, v, extra);
    if (input.keys.shape[0] !== 1) {
      throw new RangeError(`Cannot step layer ${layer}: found ${input.keys.shape[0]} tokens, expected 1`);
    }
    return this.#decide(layer, input, 0);
  }

  /**
   * Decides the next tokens of a filtered layer, rows [start, T) of the input. `learned` stops where its block ends:
   * observe the kept tokens, then scan again from `start + taken` on. Every other rule takes all.
   *
   * @param keys Keys, [T, H, d]: numbers, or a tensor of f32, f16 or bf16.
   * @param values Values, like `keys`.
   * @param extra For `learned`, T rows each.
   * @returns `taken` rows. NaN = undefined.
   * @throws {TypeError} If a tensor is of the wrong type, or one that `learned` reads is missing.
   * @throws {RangeError} If the layer is not filtered, a shape does not fit, a number is not finite, `topk` is asked
   * to go on, or `learned` has outcomes to observe first.
   */
  scan(layer: number, keys: Rows, values: Rows, extra: LearnedInput = {}, start = 0): FilterDecisions {
    return this.#decide(layer, this.#input(keys, values, extra), start);
  }

  /**
   * `learned`: takes in what the attention of kept tokens came to. Kept tokens of the current block that were not
   * observed yet come in order, all or the first of them.
   *
   * @param outputNorms norm(o) of each, o = the attention block's output after its projection, float64.
   * @param residualNorms norm(x) of each, x = the residual stream before the block, float64.
   * @throws {RangeError} If there are more than kept tokens, or a norm is negative or not finite.
   */
  observe(
    layer: number,
    outputNorms: Float64Array<ArrayBuffer>,
    residualNorms: Float64Array<ArrayBuffer>,
  ): void {
    const index = this.#indexOf(layer);
    if (outputNorms.length !== residualNorms.length) {
      throw new RangeError(
        `Cannot observe layer ${layer}: found ${outputNorms.length} and ${residualNorms.length} norms, expected as ` +
          `many of either`,
      );
    }
    const y = outputNorms.map((o, i) => outcomeOf(o, residualNorms[i]!));
    if (!outputNorms.every((o) => o >= 0) || !y.every(Number.isFinite)) {
      throw new RangeError(`Cannot observe layer ${layer}: found a norm that is negative or not finite`);
    }
    this.#ops.observe(this.#specs[index]!, this.#states[index]!, y);
  }

  /** An independent copy, to branch a sequence. */
  fork(): FilterSequence {
    return new FilterSequence(this.#shape, this.#specs, this.#ops, this.#states.map(cloneLayerState));
  }

  #indexOf(layer: number): number {
    const index = this.#specs.findIndex((spec) => spec.layer === layer);
    if (index < 0) {
      throw new RangeError(
        `Cannot filter layer ${layer}: expected one of ${this.#specs.map((spec) => spec.layer).join(", ")}`,
      );
    }
    return index;
  }

  #input(k: Rows, v: Rows, extra: LearnedInput): ScanInput<Tensor> {
    const { numHeads, numKvHeads, headDim, hiddenSize } = this.#shape;
    const optional = (name: keyof LearnedInput, width: number) => {
      const rows = extra[name];
      return rows === undefined ? {} : { [name]: asTensor(name, rows, [width]) };
    };
    return {
      keys: asTensor("keys", k, [numKvHeads, headDim]),
      values: asTensor("values", v, [numKvHeads, headDim]),
      ...optional("residual", hiddenSize),
      ...optional("normed", hiddenSize),
      ...optional("queries", numHeads * headDim),
    };
  }

  #decide(layer: number, input: ScanInput<Tensor>, start: number): FilterDecisions {
    const index = this.#indexOf(layer), total = input.keys.shape[0]!;
    if (this.#output.keep.length < total) this.#output = createScanOutput(total);
    const taken = this.#ops.scan(
      this.#specs[index]!,
      this.#states[index]!,
      input,
      start,
      total - start,
      this.#output,
    );
    return { taken, ...rowsOfOutput(this.#output, start, start + taken) };
  }
}

/** A copy of rows [start, end) of a scan's output. */
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
  if (!(rows instanceof Float32Array)) return rows;
  const width = shape.reduce((a, b) => a * b, 1);
  if (rows.length === 0 || rows.length % width !== 0) {
    throw new RangeError(
      `Cannot use "${name}": found ${rows.length} numbers, expected a multiple of ${width} (${
        shape.join(" x ")
      })`,
    );
  }
  return hostTensor("f32", [rows.length / width, ...shape], rows);
}

function expectShape(shape: FilterShape): FilterShape {
  for (const name of ["numLayers", "numHeads", "numKvHeads", "headDim", "hiddenSize"] as const) {
    const value = shape[name];
    if (typeof value !== "number") {
      throw new TypeError(`Cannot filter a model: found ${typeof value} for "${name}", expected a number`);
    }
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(
        `Cannot filter a model: found ${value} for "${name}", expected an integer from 1 on`,
      );
    }
  }
  return shape;
}

/** One specification for every layer of the plan. */
function specsOf(
  { numLayers, numKvHeads, headDim, hiddenSize }: FilterShape,
  o: ResolvedOptions,
): LayerSpec[] {
  return planLayers(numLayers, o).map(({ layer, skipRatio }) => ({
    layer,
    numKvHeads,
    headDim,
    hiddenSize,
    skipRatio,
    fusion: o.fusion,
    invert: o.invert,
    tau: o.tau,
    lambda: o.lambda,
    eps: o.eps,
    alpha: o.alpha,
    anchor: o.anchor,
    gamma: o.gamma,
    absorb: o.absorb,
    warmup: o.warmup,
    threshold: o.threshold,
    window: o.window,
    theta: o.theta,
    eta: o.eta,
    seed: o.seed,
    chunk: 0,
    block: o.block,
    ridge: o.ridge,
    projections: o.projections,
    features: o.features.reduce((set, group) => set | (1 << FEATURE_GROUPS.indexOf(group)), 0),
  }));
}
