/** Decisions about a sequence's keys and values: which tokens were decided, and which were evicted. */
import { judgedAt, NEVER, type Spans } from "../../filter/blocks.ts";
import type { LayerState } from "../../filter/layer.ts";
import { type HeadParts, unitsOf } from "../../filter/option.ts";
import type { Answer, KeySequence, LayerView } from "../../methods/protocol/pruner.ts";
import type { LayerAsk, ShownRows, Signals } from "../../methods/protocol/signals.ts";
import { range, type Rows } from "./cache/row_indices.ts";

type Changes = NonNullable<Answer["values"]>;

interface Judged {
  /**
   * Decisions so far, 1 = stays; where tokens are decided as they come, also on those that are not yet decided. Where KV heads
   * have rows of their own: how many keep the token.
   */
  readonly keep: number[];
  /** Such a decision on a token that stays. */
  readonly all: number;
  /** Tokens decided, the first of the sequence. */
  count: number;
  /** By KV heads that share rows: the end of each evicted row, by position. */
  readonly ends: readonly number[][];
}

/** A token whose key and value are evicted: no query at `end` or later attends to them. */
export interface EndingRow {
  readonly position: number;
  readonly end: number;
  /** The KV head, where each has rows of its own: its place among those that evict. */
  readonly unit?: number;
}

/**
 * Where rows of a cache end, one entry each.
 *
 * @param ending Ascending; those that are not cached yet come last.
 * @param positions [rows] i32.
 * @returns [rows] i32.
 */
export function endsOf(positions: Int32Array, ending: readonly EndingRow[]): Int32Array<ArrayBuffer> {
  const ends = new Int32Array(positions.length).fill(NEVER);
  let row = 0;
  for (const { position, end } of ending) {
    row = positions.indexOf(position, row);
    if (row < 0) break;
    ends[row] = end;
  }
  return ends;
}

/** The tokens in [from, to) that are to be evicted, ascending. @param keep 0 = key and value are evicted */
export function endingOf(
  keep: ArrayLike<number>,
  spans: Spans,
  from = 0,
  to: number = keep.length,
): EndingRow[] {
  const ending: EndingRow[] = [];
  for (let position = from; position < to; position++) {
    if (keep[position] === 0) ending.push({ position, end: judgedAt(position, spans) });
  }
  return ending;
}

export class KeyJudge {
  #layers: ReadonlyMap<number, Judged>;
  private readonly spans: Spans;
  private readonly sequence: KeySequence;

  /**
   * Before the first token.
   *
   * @param layers The side's layers.
   * @param heads The side's KV heads that do not all have the same rows.
   */
  constructor(
    spans: Spans,
    sequence: KeySequence,
    layers: readonly number[],
    heads?: ReadonlyMap<number, HeadParts>,
  ) {
    this.spans = spans;
    this.sequence = sequence;
    this.#layers = new Map(
      layers.map((layer) => {
        const all = unitsOf(heads?.get(layer));
        return [layer, { keep: [], count: 0, all, ends: Array.from({ length: all }, () => []) }];
      }),
    );
  }

  take(view: LayerView): void {
    const { keep } = this.sequence.decide(view, 0);
    if (keep === undefined) return;
    const own = this.#layers.get(view.layer)!;
    for (const kept of keep) own.keep.push(kept);
  }

  /** States of the key side's layers, in their order, if the side has specs. */
  get states(): readonly LayerState[] | undefined {
    return this.sequence.states;
  }

  /** Tokens of a layer that were decided, the first of the sequence. */
  judged(layer: number): number {
    return this.#layers.get(layer)!.count;
  }

  observe(layer: number, signals: Signals): void {
    this.sequence.observe?.(layer, signals);
  }

  show(layer: number, rows: ShownRows): void {
    this.sequence.show?.(layer, rows);
  }

  /** The first block start after a position. */
  nextStart(position: number): number {
    return judgedAt(position, { ...this.spans, recent: 0 });
  }

  /** Block starts in (from, to), ascending. */
  starts(from: number, to: number): number[] {
    const starts: number[] = [];
    for (let at = this.nextStart(from); at < to; at = this.nextStart(at)) starts.push(at);
    return starts;
  }

  /**
   * Indices of the queries, at ascending positions, that decisions read of them.
   *
   * @param isComplete Whether no query between them is skipped
   */
  read(positions: Int32Array, { last }: Pick<LayerAsk, "last">, isComplete: boolean): Rows {
    if (last === Infinity) return range(0, positions.length);
    const read: number[] = [];
    for (let i = positions.length - 1, start = 0, later = 0; i >= 0; i--) {
      const next = this.nextStart(positions[i]!);
      later = next === start ? later + 1 : 0;
      start = next;
      if ((isComplete ? next - 1 - positions[i]! : later) < last) read.unshift(i);
    }
    return Int32Array.from(read);
  }

  /** Decides a layer's tokens at all block starts below `end`: those to be evicted, and values that change. */
  judge(layer: number, end: number): { readonly gone: EndingRow[]; readonly values: Changes } {
    const own = this.#layers.get(layer)!, gone: EndingRow[] = [];
    let values: Changes = new Map();
    for (let at = judgedAt(own.count, this.spans); at < end; at = judgedAt(own.count, this.spans)) {
      const first = own.count;
      while (judgedAt(own.count, this.spans) === at) own.count++;
      if (this.sequence.judge === undefined) {
        gone.push(...endingOf(own.keep, this.spans, first, own.count));
        continue;
      }
      while (own.keep.length < own.count) own.keep.push(own.all);
      const answer = this.sequence.judge(layer, at);
      for (const position of answer.drop ?? []) {
        own.keep[position] = 0;
        gone.push({ position, end: at });
      }
      answer.dropByHead?.forEach((drop, unit) => {
        for (const position of drop) {
          own.keep[position]!--;
          gone.push({ position, end: at, unit });
        }
      });
      if (answer.values !== undefined) values = answer.values;
    }
    for (const { position, end, unit = 0 } of gone) own.ends[unit]![position] = end;
    return { gone: gone.sort((a, b) => a.position - b.position), values };
  }

  /** Tokens of a layer that will be evicted and were not decided yet, ascending. */
  ending(layer: number): EndingRow[] {
    const own = this.#layers.get(layer)!;
    return endingOf(own.keep, this.spans, own.count);
  }

  /** Per layer, one entry for each of `length` tokens, as {@linkcode Judged.keep} has them: 0 = its key and value were evicted. */
  keep(length: number): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    return new Map([...this.#layers].map(([layer, { keep, count, all }]) => {
      const mask = new Uint8Array(length).fill(all);
      mask.set(keep.slice(0, count));
      return [layer, mask];
    }));
  }

  /** Per layer, for KV heads that share rows, where the rows of `length` tokens end; {@linkcode NEVER} of those that stay. */
  ends(length: number): ReadonlyMap<number, readonly Int32Array<ArrayBuffer>[]> {
    const listOf = (ends: readonly number[]) => Int32Array.from({ length }, (_, t) => ends[t] ?? NEVER);
    return new Map([...this.#layers].map(([layer, { ends }]) => [layer, ends.map(listOf)]));
  }

  fork(): KeyJudge {
    const copy = new KeyJudge(this.spans, this.sequence.fork(), []);
    copy.#layers = new Map(
      Array.from(this.#layers, ([layer, own]) => {
        return [layer, { ...own, keep: [...own.keep], ends: own.ends.map((ends) => [...ends]) }];
      }),
    );
    return copy;
  }
}
