/** Cost and savings of a sequence, counted only from decisions: they do not depend on how and where it was computed. */
import { attentionFlops, mlpFlops, outputFlops, projectionFlops, windowPairs } from "../../cost.ts";
import { type HeadParts, unitsOf } from "../../filter/option.ts";
import type { Pruner } from "../../methods/protocol/pruner.ts";
import { layerConfig, type ModelConfig } from "../config/config.ts";

/**
 * Cost and savings of a sequence so far, against the full model; formulas in `lib/cost.ts`. A pruner that is non-causal
 * at outputs counts as if its choice had been known beforehand.
 */
export interface SequenceUsage {
  /** Bytes of keys and values in use, recent windows included; positions (4 bytes per row) are not counted. */
  readonly kvBytesHeld: number;
  /** Bytes that a dense cache of the same tokens would hold beyond that. */
  readonly kvBytesAvoided: number;
  /** Bytes of KV cache allocated. */
  readonly kvBytesAllocated: number;
  /** Queries of the full model, one per token and layer: attention computations. */
  readonly queriesDense: number;
  /** Those of them that were skipped. */
  readonly queriesSkipped: number;
  /** Pairs of a query and a key that it attends to, in the full model, over all layers. */
  readonly pairsDense: number;
  /** Those of them not computed. */
  readonly pairsAvoided: number;
  /** Operations of the projections of keys, values, queries and outputs in the full model. */
  readonly projectionFlopsDense: number;
  /** Those of them not spent. */
  readonly projectionFlopsAvoided: number;
  /** Attention operations of the full model for these tokens: projections and pairs. */
  readonly attentionFlopsDense: number;
  /** Those of them not spent. */
  readonly attentionFlopsAvoided: number;
  /** Values of the full model's weights, a tied embedding once. */
  readonly parametersDense: number;
  /** Those of them that are left out for good. */
  readonly parametersAvoided: number;
  /** All operations of the full model for these tokens. */
  readonly totalFlopsDense: number;
  /** Those of them not spent: those of attention, and of MLPs that are left out. */
  readonly totalFlopsAvoided: number;
}

/** The properties of a method that decide costs. */
type Rules = Pick<Pruner, "skipped" | "needs"> & { readonly spans: Pick<Pruner["spans"], "recent"> };

const DENSE: Rules = { spans: { recent: 0 }, skipped: { cached: false }, needs: [] };

/** Counts the computations and the cached rows of one layer of one sequence, from its decisions. */
export class LayerTally {
  /** Positions of cached rows within the layer's window of the next query, ascending; none for a full layer. */
  #near: number[] = [];
  #cached = 0;
  /** Rows that each token has in there: one, or one per head where each has its own. */
  readonly #units: number;
  /** Rows of the heads that keep everything. */
  #all = 0;
  /** Fraction of the KV heads that these are. */
  readonly #whole: number;
  /** Positions of skipped tokens that the next query still attends to, ascending. */
  #recent: number[] = [];
  /** Where cached rows end that have not ended yet, ascending. */
  #ends: number[] = [];
  /** Tokens whose keys and values were computed: none where the layer's attention is left out. */
  tokens = 0;
  /** Tokens whose attention was computed. */
  kept = 0;
  /** Pairs of a query and a key that it attends to. */
  pairs = 0;
  private readonly rules: Rules;
  private readonly window: number;
  private readonly parts: HeadParts | undefined;

  /**
   * @param rules The method; default: dense.
   * @param window Positions that the layer's queries see, their own included.
   * @param parts The layer's KV heads, where not all have the same rows. Rows and pairs are means over heads.
   */
  constructor(rules: Rules = DENSE, window: number = Infinity, parts?: HeadParts) {
    this.rules = rules;
    this.window = window;
    this.parts = parts;
    this.#units = unitsOf(parts);
    this.#whole = parts === undefined ? 0 : parts.whole.length / (parts.whole.length + parts.others.length);
  }

  /** Tokens whose query was projected. An oracle's queries do not count: its choice stands for one known beforehand. */
  get queried(): number {
    return this.rules.needs.includes("queries") ? this.tokens : this.projected;
  }

  /** Tokens whose output was projected: with local attention as the substitute, all. */
  get projected(): number {
    return this.rules.skipped.substitute?.kind === "local" ? this.tokens : this.kept;
  }

  /** Rows of the cache and of the recent window in use. */
  get heldRows(): number {
    return this.#rows + this.#whole * (this.#all - this.#rows) + this.#recent.length;
  }

  /** Mean over the heads that evict of their cached rows. */
  get #rows(): number {
    return this.#cached / this.#units;
  }

  /** Notes evicted rows by the token from which on no query attends to each, ascending. */
  drop(ends: readonly number[]): void {
    this.#ends.push(...ends);
  }

  /** Takes the decisions on the next tokens, 1 = computed. */
  take(keep: Uint8Array): void {
    const { spans: { recent }, skipped: { cached, substitute } } = this.rules;
    for (const kept of keep) {
      for (; this.#ends[0]! <= this.tokens; this.#ends.shift()) this.#cached--;
      const first = this.tokens - this.window + 1, isLocal = first > -Infinity;
      if (kept === 1 || cached) {
        this.#cached += this.#units;
        this.#all++;
        if (isLocal) this.#near.push(this.tokens);
      }
      while (this.#near[0]! < first) this.#near.shift();
      if (kept === 1) {
        this.kept++;
        const sees = (rows: number) => isLocal ? Math.min(this.#near.length, rows) : rows;
        this.pairs += sees(this.#rows) + this.#whole * (sees(this.#all) - sees(this.#rows));
        this.pairs += isLocal
          ? this.#recent.filter((position) => position >= first).length
          : this.#recent.length;
      } else {
        if (!cached && recent > 0) this.#recent.push(this.tokens);
        if (substitute?.kind === "local") {
          this.pairs += Math.min(this.tokens, recent + substitute.sinks) + 1;
        }
      }
      this.tokens++;
      while (this.#recent.length > 0 && this.tokens - this.#recent[0]! > recent) this.#recent.shift();
    }
  }

  clone(): LayerTally {
    const copy = new LayerTally(this.rules, this.window, this.parts);
    copy.tokens = this.tokens;
    copy.kept = this.kept;
    copy.pairs = this.pairs;
    copy.#near = [...this.#near];
    copy.#cached = this.#cached;
    copy.#all = this.#all;
    copy.#recent = [...this.#recent];
    copy.#ends = [...this.#ends];
    return copy;
  }
}

/**
 * Adds up the counts of a sequence's layers.
 *
 * @param tallies One per layer; layers below the first one ran dense elsewhere and hold a row per token.
 */
export function usageOf(
  config: ModelConfig,
  tallies: readonly LayerTally[],
  {
    rowBytes,
    allocatedBytes,
    droppedMlpRows = 0,
    sparedFlops = 0,
    parametersDense,
    parametersAvoided = 0,
    dense = config,
  }: {
    /** Bytes of a cached row, key and value, of the config. */
    readonly rowBytes: number;
    readonly allocatedBytes: number;
    /** Tokens, over layers, whose MLP was left out; and other operations of MLPs that were spared. */
    readonly droppedMlpRows?: number;
    readonly sparedFlops?: number;
    readonly parametersDense: number;
    readonly parametersAvoided?: number;
    /** The full model's, where a method has altered it. */
    readonly dense?: ModelConfig;
  },
  tokens: number,
): SequenceUsage {
  const { numLayers } = config, sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  const shapes = Array.from({ length: numLayers }, (_, i) => ({ ...config, ...layerConfig(config, i) }));
  const below = numLayers - tallies.length, shapeOf = (i: number) => shapes[below + i]!;
  const bytesHeld = tallies.map(({ heldRows }, i) =>
    Math.round(heldRows * shapeOf(i).numKvHeads) * rowBytes / config.numKvHeads
  );
  const held = below * tokens * rowBytes + sum(bytesHeld);
  const all = shapes.map(({ window }) => {
    return { tokens, queried: tokens, kept: tokens, pairs: windowPairs(tokens, window) };
  });
  const ofTallies = all.slice(below), projections = projectionFlops(dense, all[0]!);
  const attention = sum(all.map((own) => attentionFlops(dense, own)));
  const counts = tallies.map(({ tokens, queried, projected, pairs }) => {
    return { tokens, queried, kept: projected, pairs };
  });
  const avoided = sum(
    counts.map((own, i) => attentionFlops(dense, ofTallies[i]!) - attentionFlops(shapeOf(i), own)),
  );
  // A pair is one of all heads: where some are removed, a fraction of it.
  const pairs = counts.map((own, i) => own.pairs * shapeOf(i).numHeads / dense.numHeads);
  const narrower = sum(shapes.map((own) => mlpFlops(dense, tokens) - mlpFlops(own, tokens)));
  return {
    queriesDense: numLayers * tokens,
    queriesSkipped: sum(tallies.map(({ kept }) => tokens - kept)),
    pairsDense: sum(all.map(({ pairs }) => pairs)),
    pairsAvoided: sum(pairs.map((own, i) => ofTallies[i]!.pairs - own)),
    projectionFlopsDense: numLayers * projections,
    projectionFlopsAvoided: sum(counts.map((own, i) => projections - projectionFlops(shapeOf(i), own))),
    kvBytesHeld: held,
    kvBytesAvoided: numLayers * tokens * rowBytes - held,
    kvBytesAllocated: allocatedBytes,
    attentionFlopsDense: attention,
    attentionFlopsAvoided: avoided,
    parametersDense,
    parametersAvoided,
    totalFlopsDense: attention + numLayers * mlpFlops(dense, tokens) + outputFlops(dense, tokens),
    totalFlopsAvoided: avoided + narrower + sparedFlops + mlpFlops(dense, droppedMlpRows),
  };
}
