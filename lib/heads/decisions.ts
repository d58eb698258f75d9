/** Decisions of any method as one table: a row for each token, layer and KV head of the model. */
import { judgedAt, NEVER } from "../filter/blocks.ts";
import { unitsOf } from "../filter/option.ts";
import type { FilterShape } from "../filter/sequence.ts";
import { type KeySide, preparationOf, type Pruner } from "../methods/protocol/pruner.ts";

/** Scores of decisions; a `DecisionRecorder` has them. */
export interface ScoreSource {
  /** By `side layer chunk`, 1 = the key side: scores of tokens that are decided once. */
  scores(): ReadonlyMap<string, readonly number[]>;
  /** Of a layer that ranks its tokens again and again, the last score of each, and the block start that it is of. */
  ranksOf(chunk: number, layer: number, unit: number): {
    readonly scores: readonly number[];
    readonly at: readonly number[];
  };
}

/** @internal A sequence that a method has run over; a `ModelSequence` has its decisions. */
export interface DecidedSequence {
  /** Token ids, [T] i32. */
  readonly ids: Int32Array;
  /** By layer whose attention may be skipped, [T] u8: 0 = it was. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  /** By layer whose keys and values have a rule of their own: `ModelSequence.kvEnds`. */
  readonly kvEnds: ReadonlyMap<number, readonly Int32Array[]>;
}

/** @internal Decisions as columns of one length: by sequence, layer, KV head, and position. */
export interface Decisions {
  readonly rows: number;
  /** 0-based index of the sequence. */
  readonly chunk: Int32Array<ArrayBuffer>;
  /** 0-based index of the layer. */
  readonly layer: Int32Array<ArrayBuffer>;
  /** 0-based index of the KV head. */
  readonly head: Int32Array<ArrayBuffer>;
  /** Index of the token in its sequence. */
  readonly position: Int32Array<ArrayBuffer>;
  /** The token's id in the vocabulary. */
  readonly token: Int32Array<ArrayBuffer>;
  /**
   * The method's last score of the token: of a rule high = redundant, of an eviction low = evicted first. NaN where it has
   * none: the layer or head is not filtered, or the token was protected.
   */
  readonly score: Float64Array<ArrayBuffer>;
  /** Position at which the token was last decided; -1 where it was not. */
  readonly decidedAt: Int32Array<ArrayBuffer>;
  /** Position from which on no query attends to its key and value, which are then gone; -1 where they stay. */
  readonly evictedAt: Int32Array<ArrayBuffer>;
  /** 1 = the attention of the token was skipped. */
  readonly skipped: Uint8Array<ArrayBuffer>;
}

/** @internal The whole-number columns that a row has always, and those with -1 for none. */
export const DECIDED_PLACES = ["chunk", "layer", "head", "position", "token"] as const;
/** @internal */
export const DECIDED_TIMES = ["decidedAt", "evictedAt"] as const;

/**
 * Collects the decisions of a method on sequences: skips, evictions, heads that keep everything, and heads with rows of their own.
 *
 * @param shape The model's number of layers and KV heads.
 * @param pruner The method that ran. One that alters the model decides on no token.
 * @param sequences What it has decided, in the order of their chunks.
 * @param recorder Its scores, where they were recorded.
 */
export function collectDecisions(
  { numLayers, numKvHeads }: Pick<FilterShape, "numLayers" | "numKvHeads">,
  pruner:
    | Pick<Pruner, "spans" | "skipped" | "prepare"> & { readonly keySide?: Pick<KeySide, "heads"> }
    | undefined,
  sequences: readonly DecidedSequence[],
  recorder?: ScoreSource,
): Decisions {
  const table = createDecisions(
    numLayers * numKvHeads * sequences.reduce((sum, { ids }) => sum + ids.length, 0),
  );
  // A method that runs over the sequence beforehand was recorded, not the one that counts.
  const seen = preparationOf(pruner, "rehearse") === undefined ? recorder : undefined,
    scores = seen?.scores();
  const { spans, skipped: { cached } = {}, keySide } = pruner ?? {};
  let row = 0;
  for (const [chunk, { ids, keep, kvEnds }] of sequences.entries()) {
    for (let layer = 0; layer < numLayers; layer++) {
      const mask = keep.get(layer), ends = kvEnds.get(layer), parts = keySide?.heads?.get(layer);
      const ofKeys = scores?.get(`1 ${layer} ${chunk}`), ofQueries = scores?.get(`0 ${layer} ${chunk}`);
      for (let head = 0; head < numKvHeads; head++) {
        const unit = unitsOf(parts) > 1 ? parts!.others.indexOf(head) : 0;
        const own = parts?.whole.includes(head) ? undefined : ends?.[unit];
        const ranks = own && ofKeys === undefined ? seen?.ranksOf(chunk, layer, unit) : undefined;
        for (let t = 0; t < ids.length; t++, row++) {
          const skips = mask?.[t] === 0, isOpen = spans !== undefined && t >= spans.warmup;
          table.chunk[row] = chunk;
          table.layer[row] = layer;
          table.head[row] = head;
          table.position[row] = t;
          table.token[row] = ids[t]!;
          table.skipped[row] = Number(skips);
          if (own !== undefined) {
            const due = ranks?.at[t] ?? (ranks === undefined && isOpen ? judgedAt(t, spans) : NEVER);
            table.score[row] = (ranks?.scores ?? ofKeys)?.[t] ?? NaN;
            if (due < ids.length) table.decidedAt[row] = due;
            if (own[t]! < ids.length) table.evictedAt[row] = table.decidedAt[row] = own[t]!;
          } else if (mask !== undefined && ends === undefined) {
            table.score[row] = ofQueries?.[t] ?? NaN;
            if (isOpen) table.decidedAt[row] = t;
            const end = t + spans!.recent + 1; // of its recent window
            if (skips && !cached && end <= ids.length) table.evictedAt[row] = end;
          }
        }
      }
    }
  }
  return table;
}

/** @internal Decisions of a dense run, to be filled. */
export function createDecisions(rows: number): Decisions {
  const places = DECIDED_PLACES.map((name) => [name, new Int32Array(rows)]);
  const times = DECIDED_TIMES.map((name) => [name, new Int32Array(rows).fill(-1)]);
  return {
    ...Object.fromEntries([...places, ...times]),
    rows,
    score: new Float64Array(rows).fill(NaN),
    skipped: new Uint8Array(rows),
  } as Decisions;
}
