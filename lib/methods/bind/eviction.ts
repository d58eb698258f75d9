/**
 * Methods that rank the cached tokens at every block start, adapted from the literature. Tokens of lowest score are
 * evicted, until the ratio of those beyond the recent window is met. A press of kvpress scores once, at the end of a
 * prefill.
 */
import { planLayers } from "../../filter/schedule.ts";
import { type HeadParts, unitsOf } from "../../filter/option.ts";
import type { KeyState } from "../../filter/options.ts";
import type { FilterBackend, FilterShape } from "../../filter/sequence.ts";
import { f32Data, type Tensor } from "../../tensor.ts";
import type { LiveToken } from "../protocol/live_keys.ts";
import { mergeValues } from "./merge_values.ts";
import type { EvictionMethod } from "../protocol/method.ts";
import type { ResolvedOptions } from "./options.ts";
import type {
  Answer,
  KeySequence,
  KeySide,
  LayerView,
  Need,
  PrunerContext,
  Signals,
} from "../protocol/pruner.ts";
import { keySideOptions } from "./sides.ts";

export function createEviction(
  method: EvictionMethod,
  shape: FilterShape,
  options: ResolvedOptions,
  keyState: KeyState,
  { backend, keyTrace }: PrunerContext,
): KeySide {
  if (keyTrace !== undefined) {
    throw new RangeError(
      `Cannot record the decisions of "${method.name}": expected a rule that decides each key once`,
    );
  }
  const plan = planLayers(shape.numLayers, keySideOptions(options), "keys", shape.retrieval)
    .filter(({ skipRatio }) => skipRatio > 0);
  const needs: Need[] = [];
  if ((method.keyState ?? keyState) === "pre-rope") needs.push("pre-rope keys");
  if (method.reads.includes("query") || method.nonCausal) needs.push("queries");
  if (method.nonCausal) needs.push("future attention");
  if (method.reads.includes("attention")) needs.push("attention");
  // Values that change are changed before later queries attend to them, so block by block.
  const waits = method.reads.includes("attention") || method.merges === true;
  const all = Array.from({ length: shape.numKvHeads }, (_, head) => head), apart = method.apart !== undefined;
  const unitShape = apart ? { ...shape, numHeads: shape.numHeads / shape.numKvHeads, numKvHeads: 1 } : shape;
  const bound: Bound = { method, shape, unitShape, options, backend };
  const heads = new Map(
    plan.flatMap(({ layer, headParts: parts }): [number, HeadParts][] =>
      parts || apart ? [[layer, { ...(parts ?? { whole: [], others: all }), ...(apart && { apart }) }]] : []
    ),
  );
  return {
    layers: plan.map(({ layer }) => layer),
    ...(heads.size > 0 && { heads }),
    needs,
    at: method.nonCausal ? "prefill" : waits ? "block" : "arrival",
    start: () =>
      openSequence(
        bound,
        new Map(plan.map(({ layer, skipRatio }) => {
          const parts = heads.get(layer), units = Array.from({ length: unitsOf(parts) }, () => open(bound));
          return [layer, { ratio: skipRatio, units, heads: parts?.apart ? parts.others : undefined }];
        })),
      ),
  };
}

interface Bound {
  readonly method: EvictionMethod;
  readonly shape: FilterShape;
  /** The shape that is decided together: all heads of a layer, or one KV head with its queries. */
  readonly unitShape: FilterShape;
  readonly options: ResolvedOptions;
  readonly backend: FilterBackend | undefined;
}

/** A layer: its heads as one unit, or each head that has rows of its own as one. */
interface LiveLayer {
  readonly ratio: number;
  readonly units: readonly LiveUnit[];
  /** Heads that have rows of their own, one a unit. */
  readonly heads: readonly number[] | undefined;
}

/** Heads with the same rows. */
interface LiveUnit {
  /** Cached tokens, ascending; tokens of a prefill are here before their blocks begin. */
  tokens: (LiveToken & { received: number; query?: Float32Array })[];
  count: number;
  /** Tokens that the memory has taken in. */
  absorbed: number;
  dropped: number;
  readonly memory: Float64Array;
  /** Rows of attention that the last queries gave, each to the first tokens of `tokens`. */
  queries: Float64Array[];
  /** For a non-causal method: attention that all queries would give to all keys, [tokens, tokens]. */
  ahead?: Float64Array;
}

const open = ({ method, unitShape }: Bound): LiveUnit => ({
  ...{ tokens: [], count: 0, absorbed: 0, dropped: 0, queries: [] },
  memory: new Float64Array(method.memory?.size(unitShape) ?? 0),
});

function openSequence(bound: Bound, layers: ReadonlyMap<number, LiveLayer>): KeySequence {
  return {
    decide({ layer, count, keys, values, queries, futureAttention }: LayerView): Answer {
      const { method, backend, shape } = bound, { units, heads } = layers.get(layer)!;
      const rows = (tensor: Tensor) => f32Data(backend?.read(tensor) ?? tensor);
      const [k, v] = [rows(keys), rows(values)], q = method.reads.includes("query") && rows(queries!);
      units.forEach((own, unit) => {
        if (futureAttention !== undefined) own.ahead = futureAttention;
        const head = heads?.[unit], parts = head === undefined ? 1 : shape.numKvHeads;
        const row = (all: Float32Array, i: number) => {
          const width = all.length / count / parts, from = (i * parts + (head ?? 0)) * width;
          return all.slice(from, from + width);
        };
        for (let i = 0; i < count; i++) {
          const position = own.count++;
          own.tokens.push({
            position,
            key: row(k, i),
            value: row(v, i),
            ...(q && { query: row(q, i) }),
            received: 0,
          });
        }
      });
      return {};
    },

    observe(layer: number, { positions, rows: { attention }, unit = 0 }: Signals): void {
      const own = layers.get(layer)!.units[unit]!, { recent } = bound.options;
      const queries = positions.length, keys = attention!.length / queries;
      for (let query = 0; query < queries; query++) {
        const given = attention!.slice(query * keys, (query + 1) * keys);
        for (let i = 0; i < keys; i++) own.tokens[i]!.received += given[i]!;
        own.queries.push(given);
      }
      own.queries.splice(0, own.queries.length - Math.max(recent, 1));
    },

    judge(layer: number, at: number): Answer {
      const { units, ratio, heads } = layers.get(layer)!, { method, unitShape, options } = bound;
      const { warmup, recent, invert } = options, { length } = units;
      const each = Math.floor(ratio * Math.max(0, at - recent - warmup) + 0.5);
      for (const own of units) absorb(bound, own, at);
      const due = length * each - units.reduce((sum, own) => sum + own.dropped, 0);
      if (due <= 0) return { drop: [] };
      // A head with rows of its own keeps at least this number of the tokens that it may evict: those of highest score.
      const least = method.apart === undefined
        ? 0
        : Math.max(0, Math.max(1, Math.floor(method.apart * (at - each))) - warmup - recent);
      const able = units.flatMap((own, unit) => {
        const order = rank(bound, own, at);
        return order.slice(0, Math.max(0, order.length - least)).map((one) => ({ ...one, unit }));
      });
      able.sort((a, b) =>
        (invert ? b.worth - a.worth : a.worth - b.worth) || a.place - b.place || a.unit - b.unit
      );
      const gone = units.map((own, unit) =>
        able.slice(0, due).filter((one) => one.unit === unit).map(({ place }) => own.tokens[place]!)
      );
      const positionsOf = (tokens: readonly LiveToken[]) =>
        tokens.map(({ position }) => position).sort((a, b) => a - b);
      units.forEach((own, unit) => remove(own, new Set(gone[unit])));
      if (heads !== undefined) return { dropByHead: gone.map(positionsOf) };
      const own = units[0]!, stays = own.tokens.filter(({ position }) => position < at);
      const values = method.merges
        ? mergeValues(gone[0]!, stays, unitShape)
        : new Map<number, Float32Array<ArrayBuffer>>();
      if (values.size > 0) {
        own.tokens = own.tokens.map((token) => ({
          ...token,
          value: values.get(token.position) ?? token.value,
        }));
      }
      return { drop: positionsOf(gone[0]!), values };
    },

    fork(): KeySequence {
      const forkUnit = (own: LiveUnit): LiveUnit => ({
        ...own,
        tokens: own.tokens.map((token) => ({ ...token })),
        memory: own.memory.slice(),
        queries: [...own.queries],
      });
      const copies = [...layers].map(([layer, own]): [number, LiveLayer] => [layer, {
        ...own,
        units: own.units.map(forkUnit),
      }]);
      return openSequence(bound, new Map(copies));
    },
  };
}

/** Tokens that a unit may evict before `at`, in the order of eviction. */
function rank(bound: Bound, own: LiveUnit, at: number): { readonly place: number; readonly worth: number }[] {
  const { method, unitShape: shape, options: { warmup, recent, block, invert } } = bound;
  const { tokens: every, memory } = own, tokens = every.filter(({ position }) => position < at);
  const attention = (count: number) => meanOf(own.queries.slice(-count), tokens.length);
  const foreseen = () => foreseeFrom(at, own);
  const rows = method.score({ shape, at, tokens, warmup, recent, block, memory, attention, foreseen });
  return tokens.map((_, place) => ({
    place,
    worth: rows.reduce((sum, row) => sum + row[place]!, 0) / rows.length,
  }))
    .filter(({ place, worth }) => worth < Infinity && tokens[place]!.position >= warmup)
    .filter(({ place }) => tokens[place]!.position < at - recent)
    .sort((a, b) => (invert ? b.worth - a.worth : a.worth - b.worth) || a.place - b.place);
}

function absorb(bound: Bound, own: LiveUnit, at: number): void {
  const { method, unitShape } = bound;
  for (const token of own.tokens) {
    if (token.position < own.absorbed || token.position >= at) continue;
    method.memory?.absorb(own.memory, token, unitShape);
    delete token.query;
  }
  own.absorbed = at;
}

function remove(own: LiveUnit, gone: ReadonlySet<LiveToken>): void {
  const stays = own.tokens.map((token) => !gone.has(token));
  own.tokens = own.tokens.filter((_, i) => stays[i]);
  own.queries = own.queries.map((given) => given.filter((_, i) => stays[i]));
  own.dropped += gone.size;
}

/** For each cached token, the sum of the attention that the queries from `at` on would give it. */
function foreseeFrom(at: number, { ahead, count, tokens }: LiveUnit): Float64Array {
  const sums = new Float64Array(tokens.length);
  for (let query = at; query < count; query++) {
    tokens.forEach(({ position }, i) => sums[i]! += ahead![query * count + position]!);
  }
  return sums;
}

/** Mean of rows, which may be shorter: missing entries count as 0. */
function meanOf(rows: readonly Float64Array[], length: number): Float64Array {
  const mean = new Float64Array(length), count = rows.length;
  for (const row of rows) {
    for (let i = 0; i < row.length; i++) mean[i]! += row[i]! / count;
  }
  return mean;
}
