/** The expected cost of a method, computed from only a model's shape and the method's options: nothing is run. */
import { attentionFlops, type CostShape, mlpFlops, outputFlops } from "../../../lib/cost.ts";
import { planLayers } from "../../../lib/filter/mod.ts";
import { filtersQueries, keyRuleOf, keySideOptions, type ResolvedOptions } from "../../../lib/methods/mod.ts";

/** Fractions of the tokens after the warm-up that a layer skips and drops. */
interface LayerFractions {
  readonly queries: number;
  /** Undefined = keys and values are dropped with their queries. */
  readonly keys: number | undefined;
}

/** Expected cost of a prompt of some tokens and of one more token after it, for one sequence. */
export interface ExpectedCost {
  /** Fraction of queries whose attention is computed, over all layers. */
  readonly queries: number;
  /** Pairs of a query and a key in the prefill, over all layers. */
  readonly pairs: number;
  /** Rows of the cache after the prefill, over all layers. */
  readonly rows: number;
  /** Operations of attention in the prefill: projections and pairs. */
  readonly attentionFlops: number;
  /** All operations of the prefill; of the output layer the last token's. */
  readonly prefillFlops: number;
  /** Rows of the cache that one more token reads, over all layers. */
  readonly rowsRead: number;
  /** Operations of one more token. */
  readonly decodeFlops: number;
}

/** Attended rows per position, if tokens are skipped and dropped evenly. */
class Layer {
  readonly #shares: LayerFractions;
  readonly #options: ResolvedOptions;

  constructor(shares: LayerFractions, options: ResolvedOptions) {
    this.#shares = shares;
    this.#options = options;
  }

  /** Fraction of tokens at a position whose attention is computed. */
  keep(t: number): number {
    return t < this.#options.warmup ? 1 : 1 - this.#shares.queries;
  }

  /** Rows that a computed query at position t attends to, its own included. */
  seen(t: number): number {
    const { warmup, recent, block, kvFusion } = this.#options, { queries, keys } = this.#shares;
    if (keys !== undefined) {
      const start = t < warmup ? 0 : Math.max(warmup, t - t % block);
      return t + 1 - keys * Math.max(0, start - recent - warmup);
    }
    const after = Math.max(0, t - warmup), near = Math.min(after, recent);
    return t + 1 - (kvFusion === "none" ? 0 : queries * (after - near));
  }

  /** Rows that a token at position t reads, kept or skipped; one ratio for each decision. */
  read(t: number): number {
    const { substitute, recent, sinks } = this.#options, keep = this.keep(t);
    const local = substitute === "local" ? Math.min(t, recent + sinks) + 1 : 0;
    return keep * this.seen(t) + (1 - keep) * local;
  }

  /** Cached rows after this many tokens: rows that the last one attended to, itself only if kept or recent. */
  held(tokens: number): number {
    const { recent, kvFusion } = this.#options, last = tokens - 1;
    const drops = this.#shares.keys === undefined && kvFusion === "same" && recent === 0;
    return this.seen(last) - (drops ? 1 - this.keep(last) : 0);
  }
}

/** Fractions of every layer of a model. */
function fractionsOfLayers({ numLayers, retrieval }: CostShape, options: ResolvedOptions): LayerFractions[] {
  const queries = new Map(
    filtersQueries(options) ? planLayers(numLayers, options).map((own) => [own.layer, own.skipRatio]) : [],
  );
  const hasKeys = keyRuleOf(options) !== undefined;
  const keys = new Map(
    hasKeys
      ? planLayers(numLayers, keySideOptions(options), "keys", retrieval).map(
        ({ layer, skipRatio, headParts: heads }) => {
          const evicting = heads ? heads.others.length / (heads.whole.length + heads.others.length) : 1;
          return [layer, skipRatio * evicting];
        },
      )
      : [],
  );
  return Array.from({ length: numLayers }, (_, layer) => ({
    queries: queries.get(layer) ?? 0,
    keys: hasKeys ? keys.get(layer) ?? 0 : undefined,
  }));
}

/**
 * The expected cost of a prompt, if every requested ratio is met exactly and tokens are skipped and dropped evenly.
 * Random methods decide like that, and rules are counted as if they did. Schedules count by their layers' ratios;
 * `allocated` as the mean.
 *
 * @param tokens Tokens of the prompt, at least 1.
 */
export function expectCost(shape: CostShape, options: ResolvedOptions, tokens: number): ExpectedCost {
  const { numLayers } = shape, isLocal = options.substitute === "local";
  const kinds = [...Map.groupBy(fractionsOfLayers(shape, options), (own) => JSON.stringify(own)).values()];
  const total = { kept: 0, pairs: 0, rows: 0, attention: 0, read: 0, step: 0 };
  for (const alike of kinds) {
    const layer = new Layer(alike[0]!, options), count = alike.length;
    let kept = 0, pairs = 0;
    for (let t = 0; t < tokens; t++) {
      kept += layer.keep(t);
      pairs += layer.read(t);
    }
    const keep = layer.keep(tokens), read = layer.read(tokens);
    const ofPrompt = isLocal ? tokens : kept, ofStep = isLocal ? 1 : keep;
    total.kept += count * kept;
    total.pairs += count * pairs;
    total.rows += count * layer.held(tokens);
    total.attention += count * attentionFlops(shape, { tokens, queried: ofPrompt, kept: ofPrompt, pairs });
    total.read += count * read;
    total.step += count *
      attentionFlops(shape, { tokens: 1, queried: ofStep, kept: ofStep, pairs: read });
  }
  const output = outputFlops(shape, 1);
  return {
    queries: total.kept / (numLayers * tokens),
    pairs: total.pairs,
    rows: total.rows,
    attentionFlops: total.attention,
    prefillFlops: total.attention + numLayers * mlpFlops(shape, tokens) + output,
    rowsRead: total.read,
    decodeFlops: total.step + numLayers * mlpFlops(shape, 1) + output,
  };
}

/** Bytes of a model's matrices that every step reads: projections, MLPs and the output layer, not the embedding. */
export function weightBytes(
  { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize }: CostShape,
  elementBytes: number,
): number {
  const attention = 2 * hiddenSize * headDim * (numHeads + numKvHeads);
  return elementBytes *
    (numLayers * (attention + 3 * hiddenSize * intermediateSize) + hiddenSize * vocabSize);
}

/** Bytes of a cached row: a key and a value of one token in one layer. */
export function rowBytes({ numKvHeads, headDim }: CostShape, elementBytes: number): number {
  return 2 * numKvHeads * headDim * elementBytes;
}
