/**
 * Methods that rank the cached tokens at every block start, adapted from the literature. Tokens of lowest score are
 * evicted, until the ratio of those beyond the recent window is met. A press of kvpress scores once, at the end of a
 * prefill.
 */
import { planLayers } from "../../filter/schedule.ts";
import { type HeadParts, unitsOf } from "../../filter/option.ts";
import type { KeyState } from "../../filter/options.ts";
import type { TokenIds } from "../../filter/rule.ts";
import type { FilterBackend, FilterShape } from "../../filter/sequence.ts";
import { valueAtRank } from "../../math/quantile.ts";
import { f32Data, type Tensor } from "../../tensor.ts";
import type { LiveToken } from "../protocol/live_keys.ts";
import type { EvictionMethod } from "../protocol/method.ts";
import type { Answer, KeySide, LayerView, Need, PrunerContext, RankTrace, When } from "../protocol/pruner.ts";
import { isLate, isOfKeys, type Reading, TOKEN_ROWS } from "../protocol/signals.ts";
import { type CachePolicy, CacheSide } from "./cache_side.ts";
import { mergeValues } from "./merge_values.ts";
import type { ResolvedOptions } from "./options.ts";
import { keySideOptions } from "./sides.ts";
import { asksOf, SignalStore, sourcesOf } from "./signal_store.ts";

/**
 * Binds an eviction to a model's shape.
 *
 * @throws {RangeError} If its decisions are to be recorded, or the schedule is unreachable.
 */
export function createEviction(
  method: EvictionMethod,
  shape: FilterShape,
  options: ResolvedOptions,
  keyState: KeyState,
  { backend, keyTrace, rankTrace }: PrunerContext,
): KeySide {
  if (keyTrace !== undefined && rankTrace === undefined) {
    throw new RangeError(
      `Cannot record the decisions of "${method.name}": expected a rule that decides each key once`,
    );
  }
  const plan = planLayers(shape.numLayers, keySideOptions(options), "keys", shape.retrieval)
    .filter(({ skipRatio }) => skipRatio > 0);
  const layers = plan.map(({ layer }) => layer), reads = method.reads(options);
  const sources = sourcesOf(reads, layers, shape.numLayers), asks = asksOf(sources);
  const needs: Need[] = [];
  if ((method.keyState ?? keyState) === "pre-rope") needs.push("pre-rope keys");
  if (method.nonCausal || reads.some(({ signal }) => signal === "queries")) needs.push("queries");
  if (method.nonCausal) needs.push("future attention");
  const all = Array.from({ length: shape.numKvHeads }, (_, head) => head), apart = method.apart !== undefined;
  const unitShape = apart ? { ...shape, numHeads: shape.numHeads / shape.numKvHeads, numKvHeads: 1 } : shape;
  const heads = new Map(
    plan.flatMap(({ layer, headParts: parts }): [number, HeadParts][] =>
      parts || apart ? [[layer, { ...(parts ?? { whole: [], others: all }), ...(apart && { apart }) }]] : []
    ),
  );
  const shared = { method, shape, unitShape, options, reads, backend, rankTrace };
  return {
    layers,
    ...(heads.size > 0 && { heads }),
    ...(asks.size > 0 && { asks }),
    needs,
    ...(method.merges && { merges: true }),
    at: decidesAt(method, reads),
    start: (chunk = 0) => {
      const bound = { ...shared, chunk };
      const policies = plan.map(({ layer, skipRatio }) => {
        const parts = heads.get(layer), units = Array.from({ length: unitsOf(parts) }, () => openUnit(bound));
        return [
          layer,
          new Ranking(bound, layer, skipRatio, units, parts?.apart ? parts.others : undefined),
        ] as const;
      });
      return new CacheSide(new Map(policies), new SignalStore(sources));
    },
  };
}

/** When a method has all that it reads, and nothing of later tokens. */
function decidesAt({ nonCausal, merges }: EvictionMethod, reads: readonly Reading[]): When {
  if (nonCausal) return "prefill";
  const layersOf = ({ layers = [0] }: Reading) => layers === "below" ? [-1] : layers;
  // A layer below has computed all rows of a feed, queries behind the block start among them.
  const isOther = (one: Reading) =>
    layersOf(one).some((far) => far > 0 || (far < 0 ? isOfKeys(one) : isLate(one)));
  if (reads.some(isOther)) return "pass";
  // Values that change are changed before later queries attend to them, so block by block.
  return reads.some(isOfKeys) || merges ? "block" : "arrival";
}

interface Bound {
  readonly method: EvictionMethod;
  readonly shape: FilterShape;
  /** The shape that is decided together: all heads of a layer, or one KV head with its queries. */
  readonly unitShape: FilterShape;
  readonly options: ResolvedOptions;
  readonly reads: readonly Reading[];
  readonly backend: FilterBackend | undefined;
  readonly rankTrace: RankTrace | undefined;
  readonly chunk: number;
}

/** Heads with the same rows. */
interface LiveUnit {
  /** Cached tokens, ascending; tokens of a prefill are here before their blocks begin. */
  tokens: LiveToken[];
  count: number;
  /** Tokens that the memory has taken in. */
  absorbed: number;
  dropped: number;
  readonly memory: Float64Array;
  /** For a non-causal method: attention that all queries would give to all keys, [tokens, tokens]. */
  ahead?: Float64Array;
}

const openUnit = ({ method, unitShape }: Bound): LiveUnit => ({
  tokens: [],
  count: 0,
  absorbed: 0,
  dropped: 0,
  memory: new Float64Array(method.memory?.size(unitShape) ?? 0),
});

/** A layer of such a method: its heads as one unit, or each head that has rows of its own as one. */
class Ranking implements CachePolicy {
  private readonly bound: Bound;
  private readonly layer: number;
  private readonly ratio: number;
  private readonly units: readonly LiveUnit[];
  /** Heads that have rows of their own, one a unit. */
  private readonly heads: readonly number[] | undefined;
  #textOf: TokenIds["textOf"];

  constructor(
    bound: Bound,
    layer: number,
    ratio: number,
    units: readonly LiveUnit[],
    heads: readonly number[] | undefined,
  ) {
    this.bound = bound;
    this.layer = layer;
    this.ratio = ratio;
    this.units = units;
    this.heads = heads;
  }

  take(view: LayerView): void {
    const { backend, shape, reads } = this.bound, { count, futureAttention, tokens } = view;
    const data = (tensor: Tensor) => f32Data(backend?.read(tensor) ?? tensor);
    const rows = (["keys", "values", "queries"] as const)
      .filter((name) =>
        reads.some(({ signal, layers = [0] }) => signal === name && layers.includes(0 as never))
      )
      .map((name) => [TOKEN_ROWS[name], data(view[name]!)] as const);
    this.#textOf = tokens?.textOf;
    this.units.forEach((unit, i) => {
      if (futureAttention !== undefined) unit.ahead = futureAttention;
      const head = this.heads?.[i], parts = head === undefined ? 1 : shape.numKvHeads;
      for (let row = 0; row < count; row++) {
        const token: { -readonly [K in keyof LiveToken]?: LiveToken[K] } = {
          ...(tokens && { id: tokens.ids[row]! }),
          position: unit.count++,
        };
        for (const [name, all] of rows) {
          const width = all.length / count / parts, from = (row * parts + (head ?? 0)) * width;
          token[name] = all.slice(from, from + width);
        }
        unit.tokens.push(token as LiveToken);
      }
    });
  }

  judge(at: number, signals: SignalStore): Answer {
    const { units, heads, bound: { method } } = this, budget = this.#budget(at);
    for (const unit of units) absorb(this.bound, unit, at);
    const toEvict = units.length * budget - units.reduce((sum, { dropped }) => sum + dropped, 0);
    if (toEvict <= 0) return { drop: [] };
    const scores = units.map((unit, i) => this.#score(unit, i, at, signals));
    this.#show(at, scores);
    const places = chooseLowest(scores, toEvict, this.#minKept(at, budget));
    const evicted = units.map((unit, i) => remove(unit, places[i]!));
    const positions = evicted.map((tokens) => tokens.map(({ position }) => position));
    if (heads !== undefined) return { dropByHead: positions };
    return {
      drop: positions[0]!,
      ...(method.merges && { values: this.#merge(at, evicted[0]!, places[0]!, scores[0]!) }),
    };
  }

  /** Shows scores to the trace, as the method has them. */
  #show(at: number, scores: readonly Float64Array[]): void {
    const { rankTrace, chunk } = this.bound;
    if (rankTrace === undefined) return;
    for (const [unit, own] of this.units.entries()) {
      const positions = tokensBefore(own, at).map(({ position }) => position);
      rankTrace({ at, positions, scores: scores[unit]!, unit }, this.layer, chunk);
    }
  }

  /** Merges evicted values into those that stay, in the order of their scores. */
  #merge(at: number, evicted: readonly LiveToken[], places: readonly number[], scores: Float64Array) {
    const unit = this.units[0]!;
    const order = [...places.keys()].sort((a, b) => scores[places[a]!]! - scores[places[b]!]! || a - b);
    const goes = order.map((i) => evicted[i]!);
    const values = mergeValues(goes, tokensBefore(unit, at), this.bound.unitShape);
    unit.tokens = unit.tokens.map((token) => ({
      ...token,
      value: values.get(token.position) ?? token.value,
    }));
    return values;
  }

  fork(): Ranking {
    const units = this.units.map((unit) => ({
      ...unit,
      tokens: unit.tokens.map((token) => ({ ...token })),
      memory: unit.memory.slice(),
    }));
    const copy = new Ranking(this.bound, this.layer, this.ratio, units, this.heads);
    copy.#textOf = this.#textOf;
    return copy;
  }

  /** Tokens that a unit has lost at a block start, mean over units. */
  #budget(at: number): number {
    const { warmup, recent } = this.bound.options;
    return Math.floor(this.ratio * Math.max(0, at - recent - warmup) + 0.5);
  }

  /** Tokens, of those that may go, that a head with rows of its own keeps at least: those of highest score. */
  #minKept(at: number, budget: number): number {
    const { method: { apart }, options: { warmup, recent } } = this.bound;
    if (apart === undefined) return 0;
    return Math.max(0, Math.max(1, Math.floor(apart * (at - budget))) - warmup - recent);
  }

  /** Scores of a unit's tokens before `at`, [tokens] f64, the lowest evicted first; Infinity: not to be evicted. */
  #score(unit: LiveUnit, index: number, at: number, store: SignalStore): Float64Array {
    const { method, unitShape: shape, options: { warmup, recent, block, invert } } = this.bound;
    const tokens = tokensBefore(unit, at), { memory } = unit, { layer } = this;
    const signals = store.windowOn(layer, at, tokens, index), foreseen = () => foreseeFrom(at, unit, tokens);
    const textOf = ({ id }: LiveToken) => {
      const text = id === undefined ? undefined : this.#textOf?.(id);
      if (text !== undefined) return text;
      throw new TypeError(
        "Cannot score a token by its text: found rows alone, expected a model's run over a text",
      );
    };
    const spans = { warmup, recent, block };
    const rows = method.score({ ...spans, shape, layer, at, tokens, textOf, memory, signals, foreseen });
    const scores = new Float64Array(tokens.length).fill(Infinity);
    for (let place = 0; place < tokens.length; place++) {
      const { position } = tokens[place]!;
      if (position < warmup || position >= at - recent) continue;
      let sum = 0;
      for (const row of rows) sum += row[place]!;
      const score = sum / rows.length;
      if (score < Infinity) scores[place] = invert ? -score : score;
    }
    return scores;
  }
}

/**
 * Places of the `count` lowest scores over all units, ascending in each.
 *
 * @param scores [units][tokens] f64
 */
function chooseLowest(scores: readonly Float64Array[], count: number, minKept: number): number[][] {
  const lowest = scores.map((row) => lowestOf(row, count, minKept));
  if (scores.length === 1) return lowest;
  const chosen = lowest.flatMap((places, unit) =>
    places.map((place) => ({ unit, place, score: scores[unit]![place]! }))
  ).sort((a, b) => a.score - b.score || a.place - b.place || a.unit - b.unit).slice(0, count);
  return lowest.map((_, unit) =>
    chosen.filter((one) => one.unit === unit).map(({ place }) => place).sort((a, b) => a - b)
  );
}

/** Places of the `count` lowest scores, of equals the first ones, ascending; `minKept` finite ones stay at least. */
function lowestOf(scores: Float64Array, count: number, minKept: number): number[] {
  const order = scores.slice(), places: number[] = [];
  let finite = 0;
  for (const score of scores) if (score < Infinity) finite++;
  const chosen = Math.min(count, finite - minKept);
  if (chosen <= 0) return places;
  const limit = valueAtRank(order, chosen - 1);
  let equals = chosen; // of the limit itself
  for (const score of scores) if (score < limit) equals--;
  for (let place = 0; place < scores.length; place++) {
    if (scores[place]! < limit || scores[place] === limit && equals-- > 0) places.push(place);
  }
  return places;
}

/** Tokens of a unit before a position. */
function tokensBefore({ tokens }: LiveUnit, at: number): LiveToken[] {
  let end = tokens.length;
  while (end > 0 && tokens[end - 1]!.position >= at) end--;
  return tokens.slice(0, end);
}

function absorb({ method: { memory }, unitShape }: Bound, unit: LiveUnit, at: number): void {
  for (const token of memory === undefined ? [] : unit.tokens) {
    if (token.position < unit.absorbed || token.position >= at) continue;
    memory!.absorb(unit.memory, token, unitShape);
    (token as { query?: Float32Array | undefined }).query = undefined;
  }
  unit.absorbed = at;
}

/** Takes tokens out of a unit, and returns them. @param places Ascending. */
function remove(unit: LiveUnit, places: readonly number[]): LiveToken[] {
  const { tokens } = unit, evicted = places.map((place) => tokens[place]!);
  let to = places[0] ?? tokens.length;
  for (let from = to, next = 0; from < tokens.length; from++) {
    if (from === places[next]) next++;
    else tokens[to++] = tokens[from]!;
  }
  tokens.length = to;
  unit.dropped += places.length;
  return evicted;
}

/** For each token, the sum of the attention that the queries from `at` on would give it, [tokens] f64. */
function foreseeFrom(at: number, { ahead, count }: LiveUnit, tokens: readonly LiveToken[]): Float64Array {
  const sums = new Float64Array(tokens.length);
  for (let query = at; query < count; query++) {
    for (let i = 0; i < tokens.length; i++) sums[i]! += ahead![query * count + tokens[i]!.position]!;
  }
  return sums;
}
