/** Signals of one sequence, by layer: what a key side reads of queries and tokens, kept for as long as it may be read. */
import type { LiveSignals, LiveToken } from "../protocol/live_keys.ts";
import {
  isOfKeys,
  type LayerAsk,
  type QueryRange,
  type Reading,
  type RowSignal,
  type ShownRows,
  type Signal,
  type Signals,
  TOKEN_ROWS,
} from "../protocol/signals.ts";

/** Readings of one layer, and the layers whose decisions they are for. */
interface Source {
  readonly readings: Reading[];
  readonly readers: Set<number>;
}

/** By layer, what is read of it. */
export type Sources = ReadonlyMap<number, Source>;

/** What readings mean for the layers of a model. @param layers Those that are decided, 0-based. */
export function sourcesOf(
  readings: readonly Reading[],
  layers: readonly number[],
  numLayers: number,
): Sources {
  const sources = new Map<number, Source>();
  for (const reader of layers) {
    for (const reading of readings) {
      const { layers: distances = [0] } = reading;
      const read = distances === "below" ? [...Array(reader).keys()] : distances.map((far) => reader + far);
      for (const layer of read) {
        if (layer < 0 || layer >= numLayers) continue;
        const source = sources.get(layer) ?? { readings: [], readers: new Set() };
        sources.set(layer, source);
        source.readings.push(reading);
        source.readers.add(reader);
      }
    }
  }
  return sources;
}

/** What a model computes for them, by layer. @param undecided Whether only keys that are not decided yet count. */
export function asksOf(sources: Sources, undecided = false): ReadonlyMap<number, LayerAsk> {
  const asks = [...sources].map(([layer, { readings, readers }]): [number, LayerAsk] => {
    const isOwn = readers.size === 1 && readers.has(layer);
    const rows = readings.filter((one) => !isOfKeys(one)).map(({ signal }) => signal as RowSignal)
      .filter((signal) => !isOwn || !(signal in TOKEN_ROWS));
    const ofKeys = readings.filter(isOfKeys);
    const last = ofKeys.map(({ queries }) => queries && "last" in queries ? queries.last : Infinity);
    const keys = [...new Set(ofKeys.map(({ signal }) => signal as Signal))];
    const distance = Math.min(...ofKeys.map(({ queries }) => Math.floor(beyondOf(queries) ?? -1) + 1));
    const ofQueries = { last: Math.max(0, ...last), distance: ofKeys.length === 0 ? 0 : distance };
    return [layer, { rows: [...new Set(rows)], keys, undecided, ...ofQueries }];
  });
  return new Map(asks.filter(([, { rows, keys }]) => rows.length + keys.length > 0));
}

/** Sums of one signal about tokens, and how many queries they are of, by position. */
class Sums {
  private readonly signal: Signal;
  private readonly beyond: number;
  private first = 0;
  private sums = new Float64Array(64);
  private counts = new Float64Array(64);

  constructor(signal: Signal, beyond: number) {
    this.signal = signal;
    this.beyond = beyond;
  }

  add({ positions, keys, rows }: Signals): void {
    const values = rows[this.signal]!, last = keys.at(-1) ?? -1;
    if (last - this.first >= this.sums.length) this.grow(2 * (last - this.first));
    const { sums, counts, first } = this, { length } = keys;
    const start = (keys[0] ?? 0) - first, isRun = last - first - start === length - 1;
    let far = 0; // keys that the query is far enough behind
    for (let query = 0; query < positions.length; query++) {
      const reach = positions[query]! - this.beyond, row = query * length;
      while (far < length && keys[far]! < reach) counts[keys[far++]! - first]! += positions.length - query;
      if (isRun) { for (let i = 0; i < far; i++) sums[start + i]! += values[row + i]!; }
      else for (let i = 0; i < far; i++) sums[keys[i]! - first]! += values[row + i]!;
    }
  }

  sum(position: number): number {
    return this.sums[position - this.first] ?? 0;
  }

  count(position: number): number {
    return this.counts[position - this.first] ?? 0;
  }

  /** Mean over the queries, 0 where there were none. */
  mean(position: number): number {
    return this.sum(position) / (this.count(position) || 1);
  }

  /** Forgets the tokens before a position. */
  forget(position: number): void {
    const gone = Math.min(position - this.first, this.sums.length);
    for (const numbers of [this.sums, this.counts]) {
      numbers.copyWithin(0, gone).fill(0, numbers.length - gone);
    }
    this.first = position;
  }

  fork(): Sums {
    const copy = new Sums(this.signal, this.beyond);
    return Object.assign(copy, { first: this.first, sums: this.sums.slice(), counts: this.counts.slice() });
  }

  private grow(length: number): void {
    const [sums, counts] = [new Float64Array(length), new Float64Array(length)];
    sums.set(this.sums);
    counts.set(this.counts);
    Object.assign(this, { sums, counts });
  }
}

/** Signals about the keys of one layer, or of one of its KV heads. */
interface KeySignals {
  /** By signal and distance. */
  readonly sums: Map<string, Sums>;
  /** Those of the last queries, in order. */
  blocks: Signals[];
  /** Where other layers read the sums: those not in the sums yet, in order. */
  waiting: Signals[];
}

/** A signal of the tokens of a layer, by position. */
interface TokenRows {
  readonly width: number;
  data: Float64Array;
}

const beyondOf = (queries: QueryRange | undefined): number | undefined =>
  queries === undefined ? -1 : "beyond" in queries ? queries.beyond : undefined;

export class SignalStore {
  private readonly sources: Sources;
  #keys = new Map<string, KeySignals>();
  #rows = new Map<string, TokenRows>();
  /** The block start that each layer has last decided at. */
  #decided = new Map<number, number>();

  constructor(sources: Sources) {
    this.sources = sources;
  }

  /** Takes signals of queries in. */
  add(layer: number, signals: Signals): void {
    const { readings, readers } = this.sources.get(layer)!, own = this.#keysOf(layer, signals.unit);
    // Another layer decides at a block start when this one has already computed queries behind it.
    if ([...readers].some((reader) => reader !== layer)) own.waiting.push(copyRows(signals));
    else for (const sums of own.sums.values()) sums.add(signals);
    if (readings.some(({ queries }) => queries && "last" in queries)) own.blocks.push(copyRows(signals));
  }

  /** Takes rows of tokens in. */
  show(layer: number, { signal, first, count, data }: ShownRows): void {
    const width = data.length / count, name = `${layer} ${signal}`, end = (first + count) * width;
    const own = this.#rows.get(name) ?? { width, data: new Float64Array(0) };
    this.#rows.set(name, own);
    if (own.data.length < end) {
      const grown = new Float64Array(2 * end);
      grown.set(own.data);
      own.data = grown;
    }
    own.data.set(data, first * width);
  }

  /** The sums that a reading of a layer follows from. */
  sums(layer: number, signal: Signal, beyond: number, unit?: number): Sums {
    const own = this.#keysOf(layer, unit).sums.get(`${signal} ${beyond}`);
    if (own === undefined) throw unread(signal, layer);
    return own;
  }

  /** Signals about some tokens, for a layer's decision at a block start. */
  windowOn(deciding: number, at: number, tokens: readonly LiveToken[], unit?: number): LiveSignals {
    return {
      read: (signal, { layer = deciding, queries } = {}) => {
        const { readings, readers } = this.sources.get(layer) ?? {};
        const isRead = readings?.some((reading) =>
          reading.signal === signal && sameRange(reading.queries, queries)
        );
        if (!isRead || !readers!.has(deciding)) throw unread(signal, layer);
        if (layer === deciding && signal in TOKEN_ROWS) {
          return rowsOf(tokens, signal as keyof typeof TOKEN_ROWS);
        }
        if (!isOfKeys({ signal })) return this.#readRows(`${layer} ${signal}`, tokens);
        // A layer that evicts nothing has one unit for all its heads.
        const from = layer === deciding || this.#keys.has(`${layer} ${unit}`) ? unit : undefined;
        const beyond = beyondOf(queries);
        if (beyond === undefined) {
          const { last } = queries as { readonly last: number };
          return meanOfLast(this.#keysOf(layer, from).blocks, signal as Signal, last, at, tokens);
        }
        addWaiting(this.#keysOf(layer, from), at);
        const sums = this.sums(layer, signal as Signal, beyond, from), out = new Float64Array(tokens.length);
        for (let i = 0; i < tokens.length; i++) {
          const { position } = tokens[i]!;
          out[i] = queries === undefined ? sums.sum(position) : sums.mean(position);
        }
        return out;
      },
    };
  }

  /** Notes that a layer has decided at a block start: what no later decision reads is dropped. */
  settle(deciding: number, at: number): void {
    this.#decided.set(deciding, at);
    for (const [layer, { readings, readers }] of this.sources) {
      if (!readers.has(deciding)) continue;
      const last = Math.max(
        0,
        ...readings.map(({ queries }) => queries && "last" in queries ? queries.last : 0),
      );
      if (last === 0) continue; // no blocks are kept
      const next = Math.min(...[...readers].map((reader) => this.#decided.get(reader) ?? 0));
      for (const [name, own] of this.#keys) {
        if (Number.parseInt(name) === layer) own.blocks = withLast(own.blocks, last, next);
      }
    }
  }

  fork(): SignalStore {
    const copy = new SignalStore(this.sources);
    copy.#decided = new Map(this.#decided);
    copy.#keys = new Map(
      [...this.#keys].map(([name, { sums, blocks, waiting }]) => [name, {
        sums: new Map([...sums].map(([name, own]) => [name, own.fork()])),
        blocks: [...blocks],
        waiting: [...waiting],
      }]),
    );
    copy.#rows = new Map([...this.#rows].map(([name, own]) => [name, { ...own, data: own.data.slice() }]));
    return copy;
  }

  #keysOf(layer: number, unit = 0): KeySignals {
    const name = `${layer} ${unit}`, known = this.#keys.get(name);
    if (known !== undefined) return known;
    const sums = new Map<string, Sums>();
    for (const reading of this.sources.get(layer)?.readings ?? []) {
      const beyond = beyondOf(reading.queries), signal = reading.signal as Signal;
      if (isOfKeys(reading) && beyond !== undefined) {
        sums.set(`${signal} ${beyond}`, new Sums(signal, beyond));
      }
    }
    const own = { sums, blocks: [], waiting: [] };
    this.#keys.set(name, own);
    return own;
  }

  #readRows(name: string, tokens: readonly LiveToken[]): Float64Array {
    const { width, data } = this.#rows.get(name)!, out = new Float64Array(tokens.length * width);
    tokens.forEach(({ position }, i) =>
      out.set(data.subarray(position * width, (position + 1) * width), i * width)
    );
    return out;
  }
}

/** A copy of the rows of some queries. */
function copyRows({ positions, keys, rows }: Signals, from = 0, to = positions.length): Signals {
  const { length } = keys;
  const copies = Object.entries(rows).map(([name, all]) => [name, all.slice(from * length, to * length)]);
  return { positions: positions.slice(from, to), keys: keys.slice(), rows: Object.fromEntries(copies) };
}

/** Adds the signals of queries before a position to the sums. */
function addWaiting(own: KeySignals, at: number): void {
  own.waiting = own.waiting.flatMap((block) => {
    const { length } = block.positions, before = block.positions.filter((position) => position < at).length;
    for (const sums of own.sums.values()) sums.add(copyRows(block, 0, before));
    return before < length ? [copyRows(block, before)] : [];
  });
}

/** Rows that tokens have themselves, [tokens, width] f64; 0 where one has none any more. */
function rowsOf(tokens: readonly LiveToken[], signal: keyof typeof TOKEN_ROWS): Float64Array {
  const rows = tokens.map((token) => token[TOKEN_ROWS[signal]]);
  const width = rows.find((row) => row !== undefined)?.length ?? 0,
    out = new Float64Array(rows.length * width);
  for (const [i, row] of rows.entries()) if (row !== undefined) out.set(row, i * width);
  return out;
}

const unread = (signal: string, layer: number) =>
  new TypeError(`Cannot read "${signal}" of layer ${layer}: expected a method whose reads() has it`);

const sameRange = (a: QueryRange | undefined, b: QueryRange | undefined): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

/** Mean over the last rows before a position; tokens that a row has no key of count as 0. */
function meanOfLast(
  blocks: readonly Signals[],
  signal: Signal,
  last: number,
  at: number,
  tokens: readonly LiveToken[],
): Float64Array {
  const mean = new Float64Array(tokens.length), parts: { block: Signals; from: number; to: number }[] = [];
  let count = 0;
  for (let i = blocks.length - 1; i >= 0 && count < last; i--) {
    const block = blocks[i]!, { positions } = block;
    let to = positions.length;
    while (to > 0 && positions[to - 1]! >= at) to--;
    const from = Math.max(0, to - (last - count));
    count += to - from;
    if (to > from) parts.unshift({ block, from, to });
  }
  const columns = new Int32Array(tokens.length);
  for (const { block: { keys, rows }, from, to } of parts) {
    const values = rows[signal]!, { length } = keys;
    for (let i = 0, column = 0; i < tokens.length; i++) {
      const { position } = tokens[i]!;
      while (column < length && keys[column]! < position) column++;
      columns[i] = keys[column] === position ? column : -1;
    }
    for (let row = from; row < to; row++) {
      for (let i = 0; i < tokens.length; i++) {
        if (columns[i]! >= 0) mean[i]! += values[row * length + columns[i]!]! / count;
      }
    }
  }
  return mean;
}

/** The blocks of the last rows before a position, and those behind them. */
function withLast(blocks: Signals[], last: number, at: number): Signals[] {
  let first = blocks.length;
  for (let count = 0; first > 0 && count < last; first--) {
    for (const position of blocks[first - 1]!.positions) count += Number(position < at);
  }
  return first === 0 ? blocks : blocks.slice(first);
}
