/** The key side at work: whose key and value go, by a rule of its own. */
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
} from "../filter/layer.ts";
import { RowToken } from "../filter/rule.ts";
import { openTokens } from "../filter/scan.ts";
import type { FilterBackend, FilterSequence, FilterShape } from "../filter/sequence.ts";
import { SLOT } from "../filter/slots.ts";
import { type Decisions, openDecisions, policyOf } from "../filter/threshold.ts";
import type { Tensor } from "../tensor.ts";
import { createDense } from "./dense.ts";
import { createEviction } from "./eviction/eviction.ts";
import { keyMethodOf } from "./list.ts";
import { type AnyRule, isRule } from "./method.ts";
import { readsOf, type ResolvedOptions, type TokenFilterOptions } from "./options.ts";
import {
  checkWindows,
  type DecisionTrace,
  type KeyInput,
  type KeySequence,
  type KeySide,
  type Pruner,
  type PrunerContext,
} from "./pruner.ts";
import { filtersQueries, keyRuleOf } from "./sides.ts";
import { substituteOf } from "./substitute.ts";
import { TokenFilter } from "./token_filter.ts";

/**
 * Adds the substitute and the key side that options ask for to what decides queries.
 *
 * @param queries Binds the query side; not called where no query is to be skipped.
 * @throws {RangeError} If the schedule is unreachable on the key side, or a layer cannot have the substitute.
 */
export function withKeySide(
  queries: () => Pruner,
  shape: FilterShape,
  options: ResolvedOptions,
  context: PrunerContext,
): Pruner {
  const name = keyRuleOf(options), { warmup, keyState } = options;
  const replaced = () => {
    const pruner = { ...queries(), substitute: substituteOf(options) };
    checkWindows(pruner, shape);
    return pruner;
  };
  if (name === undefined) return { ...replaced(), cacheSkipped: options.kvFusion === "none" };
  const method = keyMethodOf(name);
  const keySide = isRule(method)
    ? createKeySide(method, shape, options, context)
    : createEviction(method, shape, options, context);
  const query = filtersQueries(options)
    ? replaced()
    : { ...createDense(), name: "token-filtering", warmup, keyState };
  const ahead = keySide.looksAhead ? "scores" : "nothing";
  return {
    ...query,
    cacheSkipped: true,
    wantsQueries: query.wantsQueries || filtersQueries(options) && (keySide.wantsQueries ?? false),
    looksAhead: query.looksAhead === "nothing" ? ahead : query.looksAhead,
    keySide,
  };
}

function createKeySide(
  rule: AnyRule,
  shape: FilterShape,
  options: ResolvedOptions,
  { backend, keyTrace: trace }: PrunerContext,
): KeySide {
  // A filter of no queries is one of keys and values.
  const filter = new TokenFilter(shape, { ...options, pruneRatio: 0 } as TokenFilterOptions, backend);
  const { warmup, recent, block } = options, reads = readsOf(rule, options);
  const wantsAttention = reads.includes("attention");
  const looksAhead = policyOf(options).whole === true, { native } = rule;
  return {
    layers: filter.layers,
    warmup,
    recent,
    block,
    wantsAttention,
    ...(reads.includes("change") && { wantsChange: true }),
    looksAhead,
    ...(trace === undefined && native !== undefined && { specs: filter.specs }),
    start: (chunk = 0) =>
      wantsAttention
        ? openJudgement(filter.specs.map((spec) => ({ ...spec, chunk })), { keyTrace: trace, backend })
        : openScan(filter.start({ chunk }), chunk, trace),
  };
}

/** The key side at work on one sequence, by rules of the attention received: a spec a layer, all of one chunk. */
export function openJudgement(
  specs: readonly LayerSpec[],
  { backend, keyTrace: trace }: Pick<PrunerContext, "backend" | "keyTrace"> = {},
): KeySequence {
  return new ReceivedSequence(specs.map((spec) => openWaiting(spec)), specs[0]?.chunk ?? 0, trace, backend);
}

/** Rules of keys and values: the recurrence itself, which knows what becomes of a token when it comes. */
function openScan(sequence: FilterSequence, chunk: number, trace?: DecisionTrace): KeySequence {
  return {
    decide({ layer, keys, values }) {
      const decisions = sequence.scan(layer, keys!, values!);
      trace?.(decisions, layer, chunk);
      return decisions.keep;
    },
    states: sequence.states,
    fork: () => openScan(sequence.fork(), chunk, trace),
  };
}

/** A layer of a rule that looks at the attention received: its state, and the tokens that are still to be judged. */
interface Waiting {
  readonly spec: LayerSpec;
  readonly state: LayerState;
  /** What the rule reads of them beside attention; none where it reads nothing else. */
  readonly tokens: RowToken[];
  /** At work on the state. */
  readonly decisions: Decisions;
}

function openWaiting(spec: LayerSpec, state = createLayerState(spec), tokens: RowToken[] = []): Waiting {
  return { spec, state, tokens, decisions: openDecisions(spec, state) };
}

/** Rules of the attention received: thresholds over scores that come when tokens are judged. */
class ReceivedSequence implements KeySequence {
  readonly #layers: readonly Waiting[];
  readonly #chunk: number;
  readonly #trace: DecisionTrace | undefined;
  readonly #backend: FilterBackend | undefined;

  constructor(
    layers: readonly Waiting[],
    chunk: number,
    trace: DecisionTrace | undefined,
    backend: FilterBackend | undefined,
  ) {
    this.#layers = layers;
    this.#chunk = chunk;
    this.#trace = trace;
    this.#backend = backend;
  }

  take({ layer, count, keys, values }: KeyInput): void {
    const { spec, state, tokens } = this.#of(layer);
    if (spec.reads.every((name) => name === "attention" || name === "change")) return;
    const here = (tensor: Tensor) => this.#backend?.read(tensor) ?? tensor;
    const reader = openTokens(spec, state, { keys: here(keys!), values: here(values!) }, 0, count, true);
    for (let row = 0; row < count; row++) {
      tokens.push(reader.look(state.numbers[SLOT.absorbed]!, row));
      reader.absorb(row);
    }
  }

  decide({ layer, count, attention, distant, change }: KeyInput): Uint8Array<ArrayBuffer> {
    const { spec, state, tokens, decisions } = this.#of(layer), scorer = spec.rule.memory?.open(spec, state);
    const keep = new Uint8Array(count), due = tokens.splice(0, count);
    const rows = this.#trace && createScanOutput(count);
    for (let row = 0; row < count; row++) {
      const token = due[row] ?? new RowToken(spec, decisions.seen);
      token.attention = attention![row]!;
      token.distant = distant![row]!;
      if (change !== undefined) token.change = change[row]!;
      const raw = scorer === undefined ? spec.rule.score!(token, spec as never) : scorer.score(token);
      const { skip, theta } = decisions.decide(spec.invert ? -raw : raw);
      keep[row] = skip ? 0 : 1;
      scorer?.settle(skip);
      if (rows === undefined) continue;
      rows.redundancy[row] = spec.invert ? -raw : raw;
      rows.threshold[row] = theta;
    }
    scorer?.close();
    if (rows !== undefined) this.#trace!({ ...rows, keep }, layer, this.#chunk);
    return keep;
  }

  fork(): KeySequence {
    const copies = this.#layers.map(({ spec, state, tokens }) =>
      openWaiting(spec, cloneLayerState(state), [...tokens])
    );
    return new ReceivedSequence(copies, this.#chunk, this.#trace, this.#backend);
  }

  #of(layer: number): Waiting {
    return this.#layers.find(({ spec }) => spec.layer === layer)!;
  }
}
