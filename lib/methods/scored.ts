/** Token Filtering with a rule of one's own: a function of a token in place of a fusion rule. */
import { cloneLayerState, createLayerState, type LayerSpec, type LayerState, SLOT } from "../filter/layer.ts";
import type { TokenFilterOptions } from "../filter/options.ts";
import { chooseHighest, firstDecided, openThreshold } from "../filter/threshold.ts";
import {
  type FilterDecisions,
  type FilterSequence,
  type FilterShape,
  TokenFilter,
} from "../filter/token_filter.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import type { LayerInput, Pruner, PrunerContext, PrunerDecision, PrunerSequence } from "./pruner.ts";

/** What a rule of one's own may look at: one token in one layer, before its attention. */
export interface ScoredToken {
  /** 0-based index of the layer in the model. */
  readonly layer: number;
  /** Index of the token in its sequence. */
  readonly position: number;
  /** Mean over heads of the keys' cosines with their anchors; NaN for the first token of a sequence. */
  readonly muK: number;
  /** Population variance over heads of the same. */
  readonly varK: number;
  /** Like `muK`, of the values. */
  readonly muV: number;
  /** Like `varK`, of the values. */
  readonly varV: number;
  /** Keys, [numKvHeads * headDim]; a view, valid during the call. */
  readonly key: Float32Array;
  /** Values, likewise. */
  readonly value: Float32Array;
  /** Residual stream before the attention block, [hiddenSize]; likewise. */
  readonly residual: Float32Array;
  /** Attention's input after its RMSNorm, [hiddenSize]; likewise. */
  readonly normed: Float32Array;
}

/** Redundancy of a token: high = skip. NaN = no score: the token is kept, and no threshold looks at it. */
export type TokenScore = (token: ScoredToken) => number;

/** Token Filtering's options but for those of its own rules; anchors absorb all tokens. */
export type ScoredOptions = Omit<
  TokenFilterOptions,
  | "preset"
  | "fusion"
  | "absorb"
  | "tau"
  | "lambda"
  | "eps"
  | "alpha"
  | "block"
  | "ridge"
  | "projections"
  | "features"
>;

/**
 * Binds a rule of one's own to a model's shape. Layer plan, warm-up, thresholds, anchors and the recent window are those
 * of Token Filtering, so that only the score differs.
 *
 * @param score Redundancy of a token; called once for each token and filtered layer, in order.
 * @throws {TypeError | RangeError} If an option is wrong or the schedule is unreachable.
 *
 * @example
 * ```ts
 * import { createScored } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createScored(shape, ({ value }) => -Math.hypot(...value), { pruneRatio: 0.3 });
 * console.assert(pruner.name === "scored" && pruner.layers.length === 6);
 * ```
 */
export function createScored(
  shape: FilterShape,
  score: TokenScore,
  options: ScoredOptions = {},
  { backend, trace }: PrunerContext = {},
): Pruner {
  // Another rule runs beside, for its anchors and moments; what it decides is not used.
  const filter = new TokenFilter(shape, { ...options, absorb: "all", fusion: "mean" }, {
    scan: backend?.kvFilterScan,
  });
  const { threshold, warmup, keyState, cacheSkipped, recent, invert } = filter.options;
  const specs = new Map(filter.specs.map((spec) => [spec.layer, spec]));
  const here = (tensor: Tensor) => f32Data(backend === undefined ? tensor : backend.read(tensor));
  const hostRows = ({ keys, values, residual, normed }: LayerInput): HostRows => ({
    keys: here(keys),
    values: here(values),
    residual: here(residual),
    normed: here(normed),
    count: keys.shape[0]!,
  });
  const rule: TokenScore = invert ? (token) => -score(token) : score;

  function wrap(
    moments: FilterSequence,
    states: ReadonlyMap<number, LayerState>,
    chunk: number,
  ): PrunerSequence {
    return {
      decide(input, start) {
        const { layer, keys, values } = input;
        const rows = moments.scan(layer, keys, values, {}, start);
        const own = decideRows(specs.get(layer)!, states.get(layer)!, hostRows(input), start, rows, rule);
        trace?.(own, layer, chunk);
        return own;
      },
      fork: () =>
        wrap(
          moments.fork(),
          new Map([...states].map(([layer, state]) => [layer, cloneLayerState(state)])),
          chunk,
        ),
    };
  }

  return {
    name: "scored",
    layers: filter.layers,
    warmup,
    keyState,
    wantsQueries: false,
    wantsOutputs: false,
    looksAhead: threshold === "topk" ? "scores" : "nothing",
    cacheSkipped,
    recent,
    start: (chunk = 0) =>
      wrap(
        filter.start({ chunk }),
        new Map([...specs].map(([layer, spec]) => [layer, createLayerState(spec)])),
        chunk,
      ),
  };
}

/** What a rule sees of `count` tokens, in this process. */
interface HostRows extends Readonly<Record<"keys" | "values" | "residual" | "normed", Float32Array>> {
  readonly count: number;
}

/** Scores rows and holds them against the policy's threshold, which moves on with each. */
function decideRows(
  spec: LayerSpec,
  state: LayerState,
  input: HostRows,
  start: number,
  moments: FilterDecisions,
  score: TokenScore,
): FilterDecisions & PrunerDecision {
  const rowOf = (data: Float32Array, row: number) => {
    const size = data.length / input.count;
    return data.subarray(row * size, (row + 1) * size);
  };
  const { numbers } = state, policy = openThreshold(spec, state), { taken } = moments;
  const redundancy = new Float64Array(taken), threshold = new Float64Array(taken);
  let keep = new Uint8Array(taken).fill(1);
  for (let i = 0; i < taken; i++) {
    const position = numbers[SLOT.seen]!, row = start + i;
    redundancy[i] = score({
      layer: spec.layer,
      position,
      muK: moments.muK[i]!,
      varK: moments.varK[i]!,
      muV: moments.muV[i]!,
      varV: moments.varV[i]!,
      key: rowOf(input.keys, row),
      value: rowOf(input.values, row),
      residual: rowOf(input.residual, row),
      normed: rowOf(input.normed, row),
    });
    threshold[i] = policy.next();
    const decided = position >= firstDecided(spec.warmup);
    if (decided && redundancy[i]! > threshold[i]!) keep[i] = 0;
    numbers[SLOT.seen]! += 1;
    if (decided) numbers[SLOT.decided]! += 1;
    if (keep[i] === 0) numbers[SLOT.skipped]! += 1;
    if (!Number.isNaN(redundancy[i]!)) policy.push(redundancy[i]!);
  }
  if (spec.threshold === "topk") {
    const scores = redundancy.map((score) => Number.isNaN(score) ? -Infinity : score);
    keep = chooseHighest(scores, spec.skipRatio, spec.warmup).map((kept, i) =>
      Number.isNaN(redundancy[i]!) ? 1 : kept
    );
  }
  return { ...moments, redundancy, threshold, keep, wK: new Float64Array(taken).fill(NaN) };
}
