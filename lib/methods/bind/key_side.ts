/** The key side at work: it selects keys and values to evict, by a rule of its own. */
import { judgedAt } from "../../filter/blocks.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
} from "../../filter/layer.ts";
import type { HeadParts } from "../../filter/option.ts";
import type { KeyState } from "../../filter/options.ts";
import { RowToken } from "../../filter/rule.ts";
import { wholeLayers } from "../../filter/schedule.ts";
import { openTokens } from "../../filter/scan.ts";
import type { FilterBackend, FilterSequence, FilterShape } from "../../filter/sequence.ts";
import { SLOT } from "../../filter/slots.ts";
import { type Decisions, openDecisions, policyOf } from "../../filter/threshold.ts";
import type { Tensor } from "../../tensor.ts";
import { createEviction } from "./eviction.ts";
import { keyMethodOf } from "../list.ts";
import { type AnyRule, isRule } from "../protocol/method.ts";
import { readsOf, type ResolvedOptions } from "./options.ts";
import {
  type Answer,
  checkWindows,
  createDense,
  type DecisionTrace,
  type KeySequence,
  type KeySide,
  type LayerView,
  type Need,
  type Pruner,
  type PrunerContext,
  type Signal,
  SIGNALS,
  type Signals,
} from "../protocol/pruner.ts";
import { filtersQueries, keyRuleOf } from "./sides.ts";
import { substituteOf } from "./substitute.ts";
import { bindFilter } from "./token_filter.ts";

/**
 * Adds the substitute and the key side of the options to the pruner of queries.
 *
 * @param queries Not called where no query is to be skipped.
 * @throws {RangeError} If the schedule is unreachable on the key side, or a layer cannot have the substitute.
 */
export function withKeySide(
  queries: () => Pruner,
  shape: FilterShape,
  options: ResolvedOptions,
  context: PrunerContext,
): Pruner {
  const name = keyRuleOf(options), { warmup, block, recent } = options;
  const replaced = (cached: boolean) => {
    const pruner = { ...queries(), skipped: { cached, substitute: substituteOf(options) } };
    checkWindows(pruner, shape);
    return pruner;
  };
  if (name === undefined) return replaced(options.kvFusion === "none");
  const query = filtersQueries(options) ? replaced(true) : {
    ...createDense(),
    name: "token-filtering",
    needs: options.keyState === "pre-rope" ? ["pre-rope keys" as const] : [],
    spans: { warmup, block, recent },
    skipped: { cached: true },
  };
  const method = keyMethodOf(name),
    ofQueries = query.needs.includes("pre-rope keys") ? "pre-rope" : "post-rope";
  const keySide = isRule(method)
    ? createKeySide(method, shape, options, ofQueries, context)
    : createEviction(method, shape, options, ofQueries, context);
  // Queries that the key side looks at are computed of all tokens.
  const all = filtersQueries(options) && keySide.needs.includes("queries") ? ["queries" as const] : [];
  const whole = wholeLayers(shape.numLayers, options, shape.retrieval);
  return {
    ...query,
    needs: [...query.needs, ...all],
    keySide: { ...keySide, ...(whole.length > 0 && { whole }) },
  };
}

function createKeySide(
  rule: AnyRule,
  shape: FilterShape,
  options: ResolvedOptions,
  keyState: KeyState,
  { backend, keyTrace: trace }: PrunerContext,
): KeySide {
  const filter = bindFilter(shape, options, "keys", backend), heads = headsOf(filter.specs);
  if (heads !== undefined && trace !== undefined) throw unrecorded();
  const reads = readsOf(rule, options), signals = SIGNALS.filter((name) => reads.includes(name));
  const { native } = rule, needs: Need[] = keyState === "pre-rope" ? ["pre-rope keys"] : [];
  const waits = signals.length > 0;
  if (waits) needs.push(...signals, "until judged");
  return {
    layers: filter.layers,
    needs,
    at: waits ? "block" : policyOf(options).whole ? "prefill" : "arrival",
    ...(heads && { heads }),
    // A device decides for all heads of a layer alike.
    ...(trace === undefined && heads === undefined && native !== undefined && { specs: filter.specs }),
    start: (chunk = 0) =>
      waits
        ? openJudgement(filter.specs.map((spec) => ({ ...spec, chunk })), trace, backend)
        : openScan(filter.start({ chunk }), chunk, trace),
  };
}

/** By layer its KV heads, of layers of which some keep everything; undefined where there is none. */
function headsOf(specs: readonly LayerSpec[]): ReadonlyMap<number, HeadParts> | undefined {
  const own = specs.flatMap(({ layer, headParts: parts }): [number, HeadParts][] =>
    parts ? [[layer, parts]] : []
  );
  return own.length === 0 ? undefined : new Map(own);
}

const unrecorded = () =>
  new RangeError(
    'Cannot record the decisions of option "whole": found "heads", expected layers (auto, or a list): a trace holds one ' +
      "decision per token and layer",
  );

/** The key side at work on one sequence, by rules of the attention received: a spec per layer, all of one chunk. */
export function openJudgement(
  specs: readonly LayerSpec[],
  trace?: DecisionTrace,
  backend?: FilterBackend,
): KeySequence {
  return openReceived(specs.map((spec) => openWaiting(spec)), specs[0]?.chunk ?? 0, trace, backend);
}

/** Rules of keys and values that are the recurrence itself: a token is decided when it arrives. */
function openScan(sequence: FilterSequence, chunk: number, trace?: DecisionTrace): KeySequence {
  return {
    decide({ layer, keys, values }) {
      const decisions = sequence.scan(layer, keys, values);
      trace?.(decisions, layer, chunk);
      return { keep: decisions.keep };
    },
    states: sequence.states,
    fork: () => openScan(sequence.fork(), chunk, trace),
  };
}

/** Sums of signals of queries about tokens, from the first one that is not decided on; and how many queries gave some. */
class Said {
  private readonly sums: ReadonlyMap<Signal | "queries", number[]>;

  constructor(sums: ReadonlyMap<Signal | "queries", number[]>) {
    this.sums = sums;
  }

  /**
   * Adds the signals of queries, one after the other: query i has signals about the first `ends[i]` tokens.
   *
   * @param ends Ascending.
   * @param rows [queries, tokens] per signal.
   */
  add(ends: Int32Array, rows: Signals["rows"], tokens: number): void {
    const reach = Math.min(tokens, ends.at(-1)!);
    this.sums.forEach((sums, name) => {
      while (sums.length < reach) sums.push(0);
      ends.forEach((end, query) => {
        if (name === "queries") return;
        const values = rows[name]!, first = query * tokens, count = Math.min(tokens, end);
        for (let i = 0; i < count; i++) sums[i]! += values[first + i]!;
      });
      for (let i = 0, first = 0; name === "queries" && i < reach; i++) {
        while (ends[first]! <= i) first++;
        sums[i]! += ends.length - first;
      }
    });
  }

  /** Mean over the queries about a token, 0 where there were none. */
  mean(name: Signal, token: number): number {
    return this.has(token) ? this.sums.get(name)![token]! / this.sums.get("queries")![token]! : 0;
  }

  /** Whether some query gave signals about a token. */
  has(token: number): boolean {
    return (this.sums.get("queries")![token] ?? 0) > 0;
  }

  /** Forgets the first tokens. */
  forget(count: number): void {
    this.sums.forEach((sums) => sums.splice(0, count));
  }

  fork(): Said {
    return new Said(new Map(Array.from(this.sums, ([name, sums]) => [name, [...sums]])));
  }
}

/** A layer of a rule that reads signals of queries about keys. */
interface Waiting {
  readonly spec: LayerSpec;
  readonly state: LayerState;
  judged: number;
  /** The rule's inputs besides signals, where it reads any, of tokens from the first one that is not decided on. */
  readonly tokens: RowToken[];
  /** Signals of all later queries, and of the distant ones. */
  readonly all: Said;
  readonly distant: Said;
  readonly decisions: Decisions;
}

function openWaiting(spec: LayerSpec): Waiting {
  const names = ["queries", ...SIGNALS.filter((name) => spec.reads.includes(name))] as const;
  const said = () => new Said(new Map(names.map((name) => [name, []])));
  const state = createLayerState(spec), decisions = openDecisions(spec, state);
  return { spec, state, judged: 0, tokens: [], all: said(), distant: said(), decisions };
}

function forkWaiting(own: Waiting): Waiting {
  const { spec, all, distant, tokens } = own, state = cloneLayerState(own.state);
  const said = { all: all.fork(), distant: distant.fork() };
  return { ...own, ...said, state, tokens: [...tokens], decisions: openDecisions(spec, state) };
}

/** Rules of the attention received: thresholds over scores that come when tokens are decided. */
function openReceived(
  layers: readonly Waiting[],
  chunk: number,
  trace: DecisionTrace | undefined,
  backend: FilterBackend | undefined,
): KeySequence {
  const of = (layer: number) => layers.find(({ spec }) => spec.layer === layer)!;
  return {
    decide({ layer, count, keys, values }: LayerView): Answer {
      const { spec, state, tokens } = of(layer);
      if (spec.reads.every((name) => (SIGNALS as readonly string[]).includes(name))) return {};
      const here = (tensor: Tensor) => backend?.read(tensor) ?? tensor;
      const reader = openTokens(spec, state, { keys: here(keys), values: here(values) }, 0, count, true);
      for (let row = 0; row < count; row++) {
        tokens.push(reader.look(state.numbers[SLOT.absorbed]!, row));
        reader.absorb(row);
      }
      return {};
    },

    observe(layer: number, { positions, rows }: Signals): void {
      const { spec, judged, all, distant } = of(layer);
      const ahead = positions.map((position) => position - judged);
      const tokens = Object.values(rows)[0]!.length / positions.length;
      all.add(ahead, rows, tokens);
      distant.add(ahead.map((far) => Math.ceil(far - spec.recent / 2)), rows, tokens);
    },

    judge(layer: number, at: number): Answer {
      const own = of(layer), { spec, state, decisions, all, distant } = own, first = own.judged;
      while (judgedAt(own.judged, spec) <= at) own.judged++;
      const count = own.judged - first, due = own.tokens.splice(0, count);
      const scorer = spec.rule.memory?.open(spec, state), drop: number[] = [];
      const rows = createScanOutput(count);
      for (let row = 0; row < count; row++) {
        const token = due[row] ?? new RowToken(spec, decisions.seen);
        const far = distant.has(row) ? distant : all;
        if (spec.reads.includes("attention")) {
          token.attention = all.mean("attention", row);
          token.distant = far.mean("attention", row);
        }
        if (spec.reads.includes("change")) token.change = Math.sqrt(far.mean("change", row));
        const raw = scorer === undefined ? spec.rule.score!(token, spec as never) : scorer.score(token);
        rows.redundancy[row] = spec.invert ? -raw : raw;
        const { skip, theta } = decisions.decide(rows.redundancy[row]!);
        rows.threshold[row] = theta;
        rows.keep[row] = skip ? 0 : 1;
        if (skip) drop.push(first + row);
        scorer?.settle?.(skip);
      }
      scorer?.close?.();
      for (const said of [all, distant]) said.forget(count);
      if (count > 0) trace?.(rows, layer, chunk);
      return { drop };
    },

    fork(): KeySequence {
      return openReceived(layers.map(forkWaiting), chunk, trace, backend);
    },
  };
}
