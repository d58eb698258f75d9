/** Tables of decisions: the decision for every token and layer, the numbers behind it, and how to replay it. */
import type { ReplayOptions } from "../methods/bind/replay.ts";
import type { FilterShape } from "../filter/sequence.ts";
import type { DecisionTrace, Pruner, RankTrace } from "../methods/protocol/pruner.ts";
import { collectDecisions, type DecidedSequence, type Decisions } from "./decisions.ts";

/** Columns of whole numbers that identify the decision of a row. */
export const DECISION_PLACES = [
  "chunk", // 0-based index of the sequence
  "position", // index of the token in its sequence
  "token", // index of the token in the token stream
  "id", // the token's id in the vocabulary
  "layer", // 0-based index of the layer in the model
  "step", // number of the decision within its layer and sequence: tokens that were decided together share it
  "side", // 0 = of its attention, 1 = of its key and value
] as const;

/** Columns of the numbers behind a decision. */
export const DECISION_NUMBERS = [
  "muK", // mean over heads of sK
  "varK", // population variance over heads of sK
  "muV", // mean over heads of sV
  "varV", // population variance over heads of sV
  "wK", // weight of the key side
  "score", // score S
  "threshold", // threshold before the token
] as const;

/** @internal Decisions as columns of one length ({@linkcode DECISION_PLACES}, {@linkcode DECISION_NUMBERS}); NaN where undefined. */
export type DecisionTable =
  & { readonly [name in typeof DECISION_PLACES[number]]: Int32Array<ArrayBuffer> }
  & { readonly [name in typeof DECISION_NUMBERS[number]]: Float64Array<ArrayBuffer> }
  & {
    readonly rows: number;
    /** Cosine of each KV head's key with its anchor; no columns where they were not recorded. */
    readonly sK: readonly Float32Array<ArrayBuffer>[];
    readonly sV: readonly Float32Array<ArrayBuffer>[];
    /** 1 = compute, 0 = skip. */
    readonly keep: Uint8Array<ArrayBuffer>;
    /** True redundancy norm(o) / norm(x); undefined where it was not recorded. */
    readonly r?: Float64Array<ArrayBuffer>;
  };

export function createDecisionTable(
  rows: number,
  { heads = 0, hasRedundancy = false }: { readonly heads?: number; readonly hasRedundancy?: boolean } = {},
): DecisionTable {
  const numbers = () => new Float64Array(rows).fill(NaN);
  const perHead = () => Array.from({ length: heads }, () => new Float32Array(rows).fill(NaN));
  return {
    ...Object.fromEntries(DECISION_PLACES.map((name) => [name, new Int32Array(rows)])),
    ...Object.fromEntries(DECISION_NUMBERS.map((name) => [name, numbers()])),
    rows,
    sK: perHead(),
    sV: perHead(),
    keep: new Uint8Array(rows).fill(1),
    ...(hasRedundancy && { r: numbers() }),
  } as unknown as DecisionTable;
}

/**
 * Records the decisions of one run over sequences.
 *
 * @example
 * ```ts
 * import { createPruner, loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { DecisionRecorder, replayTable } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode("It was a dark night, and the rain fell in torrents.", { bos: true });
 * const recorder = new DecisionRecorder();
 * const pruner = createPruner("token-filtering", config, { warmup: 8 }, { trace: recorder.trace });
 * const sequence = model.start(pruner);
 * sequence.feed(ids);
 * const [first] = replayTable(recorder.table([ids]));
 * console.assert(first!.keep.get(9)!.join() === sequence.keep.get(9)!.join());
 * ```
 */
export class DecisionRecorder {
  readonly #pieces: { rows: Parameters<DecisionTrace>[0]; layer: number; chunk: number; side: 0 | 1 }[] = [];
  /** By chunk, layer and unit, the last score of each token, and the block start that it is of. */
  readonly #ranks = new Map<string, { readonly scores: number[]; readonly at: number[] }>();

  /** Takes decisions in; give it to a method as its `trace`. It does not distinguish forks of a sequence. */
  readonly trace: DecisionTrace = (rows, layer, chunk) => {
    this.#pieces.push({ rows, layer, chunk, side: 0 });
  };

  /** The same of decisions on keys and values, as its `keyTrace`. */
  readonly keyTrace: DecisionTrace = (rows, layer, chunk) => {
    this.#pieces.push({ rows, layer, chunk, side: 1 });
  };

  /** Takes in the scores of a method that ranks its tokens again and again, as its `rankTrace`: the last of each are kept. */
  readonly rankTrace: RankTrace = ({ at, positions, scores, unit }, layer, chunk) => {
    const own = this.#ranks.getOrInsertComputed(`${chunk} ${layer} ${unit}`, () => ({ scores: [], at: [] }));
    positions.forEach((position, i) => {
      if (scores[i] === Infinity) return;
      own.scores[position] = scores[i]!;
      own.at[position] = at;
    });
  };

  /** As {@linkcode ScoreSource.ranksOf}; without entries of tokens that were never ranked. @internal */
  ranksOf(chunk: number, layer: number, unit: number): {
    readonly scores: readonly number[];
    readonly at: readonly number[];
  } {
    return this.#ranks.get(`${chunk} ${layer} ${unit}`) ?? { scores: [], at: [] };
  }

  /** As {@linkcode ScoreSource.scores}. @internal */
  scores(): ReadonlyMap<string, readonly number[]> {
    const groups = Map.groupBy(this.#pieces, ({ side, layer, chunk }) => `${side} ${layer} ${chunk}`);
    return new Map(
      [...groups].map(([key, pieces]) => [key, pieces.flatMap(({ rows }) => [...rows.redundancy])]),
    );
  }

  /** By layer, the tokens of a sequence at which decisions on its attention were cut, ascending. @internal */
  cutsOf(chunk: number): ReadonlyMap<number, readonly number[]> {
    const own = this.#pieces.filter((piece) => piece.side === 0 && piece.chunk === chunk);
    return new Map(
      [...Map.groupBy(own, ({ layer }) => layer)].map(([layer, pieces]) => {
        let at = 0;
        return [layer, pieces.slice(0, -1).map(({ rows }) => at += rows.keep.length)];
      }),
    );
  }

  /**
   * What a method has decided, a row for each token, layer and KV head: skips, evictions, heads that keep everything, and heads
   * with rows of their own.
   *
   * @param shape The model's number of layers and KV heads.
   * @param pruner The method, bound with this recorder's `trace`, `keyTrace` and `rankTrace`: without them there are no scores.
   * @param sequences Those that it ran over, in the order of their chunks.
   *
   * @example
   * ```ts
   * import { createPruner, loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
   * import { DecisionRecorder } from "@tokenfilter/tokenfilter/eval";
   * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
   * const ids = tokenizer.encode("It was a dark night, and the rain fell in torrents on the sea.", { bos: true });
   * const recorder = new DecisionRecorder(), { trace, keyTrace, rankTrace } = recorder;
   * const options = { side: "key", kvFusion: "streaming", kvRatio: 0.5, warmup: 2, recent: 2, block: 4 } as const;
   * const pruner = createPruner("token-filtering", config, options, { trace, keyTrace, rankTrace });
   * const sequence = model.start(pruner);
   * sequence.feed(ids);
   * const { keep, kvEnds } = sequence;
   * const { evictedAt, rows } = recorder.decisions(config, pruner, [{ ids, keep, kvEnds }]);
   * console.assert(rows === config.numLayers * config.numKvHeads * ids.length && evictedAt[2]! > 2);
   * ```
   */
  decisions(
    shape: Pick<FilterShape, "numLayers" | "numKvHeads">,
    pruner: Pruner | undefined,
    sequences: readonly DecidedSequence[],
  ): Decisions {
    return collectDecisions(shape, pruner, sequences, this);
  }

  /**
   * All decisions so far, by side, layer, sequence and token. Keys and values on which none was taken are kept.
   *
   * @param sequences Token ids of each sequence that was run.
   * @throws {RangeError} If decisions do not fit the sequences.
   */
  table(sequences: readonly Int32Array[]): DecisionTable {
    const groups = Map.groupBy(this.#pieces, ({ side, layer, chunk }) => `${side} ${layer} ${chunk}`);
    const sorted = [...groups.values()].sort(([a], [b]) =>
      a!.side - b!.side || a!.layer - b!.layer || a!.chunk - b!.chunk
    );
    const counts = sorted.map((pieces) => {
      const { side, chunk } = pieces[0]!,
        decided = pieces.reduce((sum, { rows }) => sum + rows.keep.length, 0);
      return side === 0 ? decided : Math.max(decided, sequences[chunk]?.length ?? 0);
    });
    const firsts = sequences.map((_, i) => sequences.slice(0, i).reduce((sum, ids) => sum + ids.length, 0));
    const table = createDecisionTable(counts.reduce((sum, count) => sum + count, 0));
    let at = 0;
    for (const [group, pieces] of sorted.entries()) {
      const { layer, chunk, side } = pieces[0]!, ids = sequences[chunk] ?? new Int32Array(0);
      const begin = at, end = begin + counts[group]!;
      for (let row = begin; row < end; row++) {
        table.chunk[row] = chunk;
        table.position[row] = row - begin;
        table.token[row] = firsts[chunk]! + row - begin;
        table.id[row] = ids[row - begin] ?? -1;
        table.layer[row] = layer;
        table.side[row] = side;
        table.step[row] = pieces.length;
      }
      pieces.forEach(({ rows }, step) => {
        const count = rows.keep.length;
        table.step.fill(step, at, at + count);
        for (const name of ["muK", "varK", "muV", "varV", "wK", "threshold", "keep"] as const) {
          table[name].set(rows[name], at);
        }
        table.score.set(rows.redundancy, at);
        at += count;
      });
      if (side === 1) at = end;
      const found = at - begin;
      if (found !== ids.length) {
        throw new RangeError(
          `Cannot make a table of layer ${layer}: found ${found} decisions on sequence ${chunk}, expected ${ids.length}`,
        );
      }
    }
    return table;
  }
}

/** @internal Masks and steps of one sequence, for {@linkcode createReplay}, and the ids that they belong to. */
export type ReplayedSequence = Required<Pick<ReplayOptions, "keep" | "cuts" | "kvKeep">> & {
  readonly ids: Int32Array<ArrayBuffer>;
};

/**
 * Takes a table apart into sequences that can be replayed.
 *
 * @returns One entry for each sequence, in order.
 * @throws {RangeError} If the rows of a layer are not in order, or layers differ in their tokens.
 */
export function replayTable(table: DecisionTable): ReplayedSequence[] {
  const sequences: Map<
    string,
    { keep: number[]; cuts: number[]; ids: number[]; layer: number; side: number }
  >[] = [];
  let step = 0;
  for (let row = 0; row < table.rows; row++) {
    const chunk = table.chunk[row]!, layer = table.layer[row]!, side = table.side[row]!;
    const layers = sequences[chunk] ??= new Map(), key = `${side} ${layer}`;
    if (!layers.has(key)) layers.set(key, { keep: [], cuts: [], ids: [], layer, side });
    const own = layers.get(key)!;
    const position = table.position[row]!, { length } = own.keep;
    if (position !== length) {
      throw new RangeError(
        `Cannot replay: found position ${position} in layer ${layer} of sequence ${chunk}, expected ${length}`,
      );
    }
    if (own.keep.length > 0 && table.step[row] !== step) own.cuts.push(own.keep.length);
    step = table.step[row]!;
    own.keep.push(table.keep[row]!);
    own.ids.push(table.id[row]!);
  }
  if (sequences.length === 0) throw new RangeError("Cannot replay: found no decision, expected at least one");
  return Array.from(sequences, (layers, chunk) => {
    const parts = [...layers?.values() ?? []];
    const ids = parts[0]?.ids ?? [];
    const odd = parts.find((part) => part.ids.join() !== ids.join());
    if (ids.length === 0 || odd !== undefined) {
      const found = odd === undefined ? "no decision" : `other tokens in layer ${odd.layer}`;
      throw new RangeError(
        `Cannot replay sequence ${chunk}: found ${found}, expected the same tokens in every layer`,
      );
    }
    const masksOf = (of: number) =>
      new Map(
        parts.filter(({ side }) => side === of).map(({ layer, keep }) => [layer, Uint8Array.from(keep)]),
      );
    return {
      ids: Int32Array.from(ids),
      keep: masksOf(0),
      cuts: new Map(parts.filter(({ side }) => side === 0).map(({ layer, cuts }) => [layer, cuts])),
      kvKeep: masksOf(1),
    };
  });
}
