/** What a sequence knows of its keys and values: which were judged, and which of them went. */
import { judgedAt, NEVER } from "../../filter/blocks.ts";
import type { LayerState } from "../../filter/layer.ts";
import type { KeyInput, KeySequence, KeySide } from "../../methods/pruner.ts";

/** One layer's tokens. */
interface Judged {
  /** Decisions so far, 1 = stays; of rules that see tokens as they come, also on those that are not yet judged. */
  readonly keep: number[];
  /** Tokens judged, the first of the sequence. */
  count: number;
  /** What the tokens behind them, where attention is asked for, were given: by all later queries. */
  readonly all: Received;
  /** By the distant ones. */
  readonly distant: Received;
}

/** What queries gave to tokens: its sum, what would change without each token, and their number. */
class Received {
  #sums = new Float64Array(0);
  #changes = new Float64Array(0);
  #queries = new Float64Array(0);

  /** Takes in what a query gave to the first tokens. @param from Where its numbers begin. */
  add(tokens: number, from: number, given: Float64Array, changes?: Float64Array): void {
    if (this.#sums.length < tokens) this.#resize(Math.max(tokens, 2 * this.#sums.length));
    const sums = this.#sums, moved = this.#changes, queries = this.#queries;
    for (let i = 0; i < tokens; i++) {
      sums[i]! += given[from + i]!;
      queries[i]! += 1;
    }
    if (changes === undefined) return;
    for (let i = 0; i < tokens; i++) moved[i]! += changes[from + i]!;
  }

  /** Whether any query gave a token something. */
  has(token: number): boolean {
    return token < this.#queries.length && this.#queries[token]! > 0;
  }

  /** Mean over the queries of what they gave a token, 0 where there were none; behind those seen there may be others. */
  given(token: number): number {
    return this.has(token) ? this.#sums[token]! / this.#queries[token]! : 0;
  }

  /** The same of what would change without it. */
  change(token: number): number {
    return this.has(token) ? this.#changes[token]! / this.#queries[token]! : 0;
  }

  /** Forgets the first tokens: others are the first ones then. */
  shift(tokens: number): void {
    const { length } = this.#sums;
    for (const column of [this.#sums, this.#changes, this.#queries]) {
      column.copyWithin(0, tokens);
      column.fill(0, Math.max(0, length - tokens));
    }
  }

  /** An independent copy. */
  clone(): Received {
    const copy = new Received();
    copy.#sums = this.#sums.slice();
    copy.#changes = this.#changes.slice();
    copy.#queries = this.#queries.slice();
    return copy;
  }

  #resize(tokens: number): void {
    const grown = (column: Float64Array) => {
      const out = new Float64Array(tokens);
      out.set(column);
      return out;
    };
    this.#sums = grown(this.#sums);
    this.#changes = grown(this.#changes);
    this.#queries = grown(this.#queries);
  }
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
      side.layers.map((
        layer,
      ) => [layer, { keep: [], count: 0, all: new Received(), distant: new Received() }]),
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
    const { count, all, distant } = this.#layers.get(layer)!, { length } = positions;
    const tokens = probabilities.length / length;
    for (let row = 0; row < length; row++) {
      const ahead = positions[row]! - count, far = Math.ceil(ahead - this.#side.recent / 2);
      all.add(Math.min(tokens, ahead), row * tokens, probabilities, changes);
      distant.add(Math.min(tokens, far), row * tokens, probabilities, changes);
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
      const { all, distant } = own, far = (token: number) => distant.has(token) ? distant : all;
      const values = (of: (token: number) => number) => {
        const all = new Float64Array(count);
        for (let token = 0; token < count; token++) all[token] = of(token);
        return all;
      };
      own.keep.push(...this.#sequence.decide({
        layer,
        count,
        attention: values((token) => all.given(token)),
        distant: values((token) => far(token).given(token)),
        ...(this.#side.wantsChange && { change: values((token) => Math.sqrt(far(token).change(token))) }),
      }));
      for (const given of [all, distant]) given.shift(count);
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
    const copy = ({ keep, count, all, distant }: Judged): Judged => ({
      keep: [...keep],
      count,
      all: all.clone(),
      distant: distant.clone(),
    });
    const layers = new Map([...this.#layers].map(([layer, own]) => [layer, copy(own)]));
    return new KeyJudge(this.#side, this.#sequence.fork(), layers);
  }
}
