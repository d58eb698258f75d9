/** What a sequence knows of its keys and values: which were judged, and which of them went. */
import { judgedAt, NEVER } from "../filter/blocks.ts";
import type { LayerState } from "../filter/layer.ts";
import type { KeyInput, KeySequence, KeySide } from "../methods/pruner.ts";

/** One layer's tokens. */
interface Judged {
  /** Decisions so far, 1 = stays; of rules that see tokens as they come, also on those that are not yet judged. */
  readonly keep: number[];
  /** Tokens judged, the first of the sequence. */
  count: number;
  /** Of the tokens behind them, where attention is asked for: what later queries gave them. */
  readonly received: Received;
}

/**
 * Columns of a token's row: of all later queries the attention that they gave it, what would change without it, and their
 * number; then the same of distant ones.
 */
const SUM = 0, CHANGES = 1, QUERIES = 2, DISTANT = 3, COLUMNS = 6;

/** What tokens have received, a row each. */
class Received {
  #rows = new Float64Array(0);

  /** Rows of so many tokens, at least, to be added to; zeros where there were none. */
  rows(tokens: number): Float64Array<ArrayBuffer> {
    if (this.#rows.length < tokens * COLUMNS) {
      const grown = new Float64Array(Math.max(tokens * COLUMNS, 2 * this.#rows.length));
      grown.set(this.#rows);
      this.#rows = grown;
    }
    return this.#rows;
  }

  /** Takes the first so many rows out. */
  take(tokens: number): Float64Array<ArrayBuffer> {
    const all = this.rows(tokens), end = tokens * COLUMNS, taken = all.slice(0, end);
    all.copyWithin(0, end);
    all.fill(0, all.length - end);
    return taken;
  }

  clone(): Received {
    const copy = new Received();
    copy.#rows = this.#rows.slice();
    return copy;
  }
}

/** Mean of a column over the queries of its kind. */
function meanOf(rows: Float64Array, token: number, kind: 0 | typeof DISTANT, column: number): number {
  const at = token * COLUMNS + kind, queries = rows[at + QUERIES]!;
  return queries === 0 ? 0 : rows[at + column]! / queries;
}

/** A token whose key and value go: no query at `end` or later sees them. */
export interface EndingRow {
  readonly position: number;
  readonly end: number;
}

/**
 * Where rows of a cache end, one entry each.
 *
 * @param positions Of the rows, ascending.
 * @param ending Ascending; those that are not cached yet come last.
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

/** Of tokens [from, to) those that are decided to go, ascending. @param keep 0 = key and value go */
export function endingOf(
  keep: ArrayLike<number>,
  side: Omit<KeySide, "start">,
  from = 0,
  to: number = keep.length,
): EndingRow[] {
  const ending: EndingRow[] = [];
  for (let position = from; position < to; position++) {
    if (keep[position] === 0) ending.push({ position, end: judgedAt(position, side) });
  }
  return ending;
}

/** Judges the keys and values of one sequence. */
export class KeyJudge {
  readonly #side: KeySide;
  readonly #sequence: KeySequence;
  readonly #layers: ReadonlyMap<number, Judged>;

  /**
   * A sequence before its first token.
   *
   * @param sequence Started by `side`.
   * @param layers What is known already, by layer.
   */
  constructor(
    side: KeySide,
    sequence: KeySequence,
    layers: ReadonlyMap<number, Judged> = new Map(
      side.layers.map((layer) => [layer, { keep: [], count: 0, received: new Received() }]),
    ),
  ) {
    this.#side = side;
    this.#sequence = sequence;
    this.#layers = layers;
  }

  /** Takes in the next tokens of a layer. */
  take(input: KeyInput & Required<Pick<KeyInput, "keys" | "values">>): void {
    if (this.#side.wantsAttention || this.#side.evicts) return this.#sequence.take?.(input);
    const { keep } = this.#layers.get(input.layer)!;
    for (const kept of this.#sequence.decide(input)) keep.push(kept);
  }

  /** States of the key side's layers, in their order, where `KeySide.specs` says what decides them. */
  get states(): readonly LayerState[] | undefined {
    return this.#sequence.states;
  }

  /** Tokens of a layer that were judged, the first of the sequence. */
  judged(layer: number): number {
    return this.#layers.get(layer)!.count;
  }

  /**
   * Cached rows, the last ones, whose attention it is to be shown.
   *
   * @param numKeys Rows, the last of which is that of token `last`.
   */
  watched(layer: number, numKeys: number, last: number): number {
    // Of those that are not yet judged there is one a token, since none of them went.
    return this.#side.evicts ? numKeys : last + 1 - this.judged(layer);
  }

  /**
   * Takes in the attention of computed queries.
   *
   * @param positions Of the queries, [R].
   * @param probabilities Mean over heads, [R, U], for the U rows that {@linkcode watched} says; 0 for what a query does not
   * see.
   * @param changes What would change without each, squared, likewise; where the side asks for it.
   */
  observe(layer: number, positions: Int32Array, probabilities: Float64Array, changes?: Float64Array): void {
    if (this.#side.evicts) return this.#sequence.observe?.(layer, probabilities, positions.length);
    const { count, received } = this.#layers.get(layer)!, tokens = probabilities.length / positions.length;
    const rows = received.rows(tokens), near = this.#side.recent / 2;
    for (let row = 0; row < positions.length; row++) {
      const ahead = positions[row]! - count, from = row * tokens;
      for (let i = 0; i < tokens && i < ahead; i++) {
        const given = probabilities[from + i]!, moved = changes === undefined ? 0 : changes[from + i]!;
        const end = ahead - i > near ? COLUMNS : DISTANT;
        for (let at = i * COLUMNS; at < i * COLUMNS + end; at += DISTANT) {
          rows[at + SUM]! += given;
          rows[at + CHANGES]! += moved;
          rows[at + QUERIES]! += 1;
        }
      }
    }
  }

  /** Block starts in (from, to), ascending. */
  starts(from: number, to: number): number[] {
    const next = (at: number) => judgedAt(at, { ...this.#side, recent: 0 }), starts: number[] = [];
    for (let at = next(from); at < to; at = next(at)) starts.push(at);
    return starts;
  }

  /**
   * Judges a layer's tokens at all block starts below `end`.
   *
   * @returns the tokens whose key and value go, ascending, and from which position on no query sees them
   */
  judge(layer: number, end: number): EndingRow[] {
    const own = this.#layers.get(layer)!, first = own.count;
    if (this.#side.evicts) return this.#evict(layer, own, end);
    while (judgedAt(own.count, this.#side) < end) own.count++;
    const count = own.count - first;
    if (this.#side.wantsAttention && count > 0) {
      const due = own.received.take(count);
      const values = (of: (token: number, far: 0 | typeof DISTANT) => number) => {
        const all = new Float64Array(count);
        for (let i = 0; i < count; i++) {
          all[i] = of(i, due[i * COLUMNS + DISTANT + QUERIES]! > 0 ? DISTANT : 0);
        }
        return all;
      };
      own.keep.push(...this.#sequence.decide({
        layer,
        count,
        attention: values((token) => meanOf(due, token, 0, SUM)),
        distant: values((token, far) => meanOf(due, token, far, SUM)),
        ...(this.#side.wantsChange && {
          change: values((token, far) => Math.sqrt(meanOf(due, token, far, CHANGES))),
        }),
      }));
    }
    return endingOf(own.keep, this.#side, first, own.count);
  }

  /** Values that the last judgement of a layer has changed, by position: of a side that merges, judged block by block. */
  merged(layer: number): ReadonlyMap<number, Float32Array<ArrayBuffer>> {
    return this.#side.merges ? this.#sequence.merged!(layer) : new Map();
  }

  /** Lets tokens go at all block starts below `end` at which there are new ones beyond the recent window. */
  #evict(layer: number, own: Judged, end: number): EndingRow[] {
    const gone: EndingRow[] = [];
    for (let at = judgedAt(own.count, this.#side); at < end; at = judgedAt(own.count, this.#side)) {
      while (judgedAt(own.count, this.#side) === at) own.keep[own.count++] = 1;
      for (const position of this.#sequence.evict!(layer, at)) {
        own.keep[position] = 0;
        gone.push({ position, end: at });
      }
    }
    return gone.sort((a, b) => a.position - b.position);
  }

  /** Tokens of a layer that are decided to go and were not judged yet, ascending. */
  ending(layer: number): EndingRow[] {
    const own = this.#layers.get(layer)!;
    return endingOf(own.keep, this.#side, own.count);
  }

  /** Per layer, one entry for each of `length` tokens: 0 = its key and value have gone. */
  keep(length: number): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    return new Map([...this.#layers].map(([layer, { keep, count }]) => {
      const all = new Uint8Array(length).fill(1);
      all.set(keep.slice(0, count));
      return [layer, all];
    }));
  }

  /** An independent copy. */
  fork(): KeyJudge {
    const copy = ({ keep, count, received }: Judged): Judged => ({
      keep: [...keep],
      count,
      received: received.clone(),
    });
    const layers = new Map([...this.#layers].map(([layer, own]) => [layer, copy(own)]));
    return new KeyJudge(this.#side, this.#sequence.fork(), layers);
  }
}
