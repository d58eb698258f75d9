/**
 * Methods that rank the cached tokens at every block start, adapted from the literature. Tokens of lowest score are
 * evicted, until the ratio of those beyond the recent window is met. A press of kvpress scores once, at the end of a
 * prefill.
 */
import { planLayers } from "../../filter/schedule.ts";
import type { HeadParts } from "../../filter/option.ts";
import type { KeyState } from "../../filter/options.ts";
import type { FilterBackend, FilterShape } from "../../filter/sequence.ts";
import { f32Data, type Tensor } from "../../tensor.ts";
import { type LiveToken, mergeValues } from "./live_keys.ts";
import type { EvictionMethod } from "../method.ts";
import type { ResolvedOptions } from "../options.ts";
import type { Answer, KeySequence, KeySide, LayerView, Need, PrunerContext, Signals } from "../pruner.ts";
import { keySideOptions } from "../sides.ts";

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
  const bound: Bound = { method, shape, options, backend };
  const heads = plan.flatMap(({ layer, headParts: parts }): [number, HeadParts][] =>
    parts ? [[layer, parts]] : []
  );
  return {
    layers: plan.map(({ layer }) => layer),
    ...(heads.length > 0 && { heads: new Map(heads) }),
    needs,
    at: method.nonCausal ? "prefill" : waits ? "block" : "arrival",
    start: () =>
      new EvictionSequence(
        bound,
        new Map(plan.map(({ layer, skipRatio }) => [layer, open(bound, skipRatio)])),
      ),
  };
}

interface Bound {
  readonly method: EvictionMethod;
  readonly shape: FilterShape;
  readonly options: ResolvedOptions;
  readonly backend: FilterBackend | undefined;
}

interface LiveLayer {
  readonly ratio: number;
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

const open = ({ method, shape }: Bound, ratio: number): LiveLayer => ({
  ...{ ratio, tokens: [], count: 0, absorbed: 0, dropped: 0, queries: [] },
  memory: new Float64Array(method.memory?.size(shape) ?? 0),
});

class EvictionSequence implements KeySequence {
  private readonly bound: Bound;
  private readonly layers: ReadonlyMap<number, LiveLayer>;

  constructor(bound: Bound, layers: ReadonlyMap<number, LiveLayer>) {
    this.bound = bound;
    this.layers = layers;
  }

  decide({ layer, count, keys, values, queries, futureAttention }: LayerView): Answer {
    const own = this.layers.get(layer)!, { method, backend } = this.bound;
    const rows = (tensor: Tensor) => f32Data(backend?.read(tensor) ?? tensor);
    if (futureAttention !== undefined) own.ahead = futureAttention;
    const [k, v] = [rows(keys), rows(values)], q = method.reads.includes("query") && rows(queries!);
    const row = (all: Float32Array, i: number) =>
      all.slice(i * all.length / count, (i + 1) * all.length / count);
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
    return {};
  }

  observe(layer: number, { positions, rows: { attention } }: Signals): void {
    const own = this.layers.get(layer)!, { recent } = this.bound.options;
    const queries = positions.length, keys = attention!.length / queries;
    for (let query = 0; query < queries; query++) {
      const given = attention!.slice(query * keys, (query + 1) * keys);
      for (let i = 0; i < keys; i++) own.tokens[i]!.received += given[i]!;
      own.queries.push(given);
    }
    own.queries.splice(0, own.queries.length - Math.max(recent, 1));
  }

  judge(layer: number, at: number): Answer {
    const own = this.layers.get(layer)!, { method, shape, options } = this.bound;
    const { warmup, recent, block, invert } = options;
    const tokens = own.tokens.filter(({ position }) => position < at);
    for (const token of tokens.filter(({ position }) => position >= own.absorbed)) {
      method.memory?.absorb(own.memory, token, shape);
      delete token.query;
    }
    own.absorbed = at;
    const due = Math.floor(own.ratio * Math.max(0, at - recent - warmup) + 0.5) - own.dropped;
    if (due <= 0) return { drop: [] };
    const attention = (count: number) => meanOf(own.queries.slice(-count), tokens.length);
    const foreseen = () => foreseeFrom(at, own);
    const rows = method.score({
      shape,
      at,
      tokens,
      warmup,
      recent,
      block,
      memory: own.memory,
      attention,
      foreseen,
    });
    const worth = tokens.map((_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
    const gone = tokens.map((_, i) => i)
      .filter((i) =>
        tokens[i]!.position >= warmup && tokens[i]!.position < at - recent && worth[i]! < Infinity
      )
      .sort((a, b) => (invert ? worth[b]! - worth[a]! : worth[a]! - worth[b]!) || a - b)
      .slice(0, due);
    const goes = new Set(gone), places = gone.toSorted((a, b) => a - b);
    const values = method.merges
      ? mergeValues(gone.map((i) => tokens[i]!), tokens.filter((_, i) => !goes.has(i)), shape)
      : new Map<number, Float32Array<ArrayBuffer>>();
    if (values.size > 0) {
      own.tokens = own.tokens.map((token) => ({
        ...token,
        value: values.get(token.position) ?? token.value,
      }));
    }
    own.tokens = own.tokens.filter((_, i) => !goes.has(i));
    own.queries = own.queries.map((given) => without(given, places));
    own.dropped += gone.length;
    return { drop: gone.map((i) => tokens[i]!.position).sort((a, b) => a - b), values };
  }

  fork(): KeySequence {
    const copies = [...this.layers].map(([layer, own]): [number, LiveLayer] => [layer, {
      ...own,
      tokens: own.tokens.map((token) => ({ ...token })),
      memory: own.memory.slice(),
      queries: [...own.queries],
    }]);
    return new EvictionSequence(this.bound, new Map(copies));
  }
}

/** For each cached token, the sum of the attention that the queries from `at` on would give it. */
function foreseeFrom(at: number, { ahead, count, tokens }: LiveLayer): Float64Array {
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

/** A row without some of its places, ascending. */
function without(row: Float64Array, places: readonly number[]): Float64Array {
  const left = new Float64Array(row.length);
  let end = 0, from = 0;
  for (const place of [...places, row.length]) {
    const part = row.subarray(from, place);
    left.set(part, end);
    end += part.length;
    from = place + 1;
  }
  return left.subarray(0, end);
}
