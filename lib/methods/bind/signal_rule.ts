/** A rule that reads signals of later queries, as a policy: thresholds over scores that come when tokens are decided. */
import { judgedAt } from "../../filter/blocks.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
} from "../../filter/layer.ts";
import { RowToken } from "../../filter/rule.ts";
import { openTokens } from "../../filter/scan.ts";
import type { FilterBackend } from "../../filter/sequence.ts";
import { SLOT } from "../../filter/slots.ts";
import { type Decisions, openDecisions } from "../../filter/threshold.ts";
import type { Tensor } from "../../tensor.ts";
import type { Answer, DecisionTrace, KeySequence, LayerView } from "../protocol/pruner.ts";
import { type QueryRange, type Reading, type Signal, SIGNALS } from "../protocol/signals.ts";
import { type CachePolicy, CacheSide } from "./cache_side.ts";
import { SignalStore, sourcesOf } from "./signal_store.ts";

/** Queries behind a token, and those that are more than half a recent window behind it. */
const rangesOf = (recent: number): readonly QueryRange[] => [{ beyond: 0 }, { beyond: recent / 2 }];

/** The signals that a rule reads. */
const signalsOf = (reads: readonly string[]): Signal[] => SIGNALS.filter((name) => reads.includes(name));

/**
 * Readings of a rule of keys and values.
 *
 * @param reads As the rule has them.
 * @param isDense Whether every query is computed: then each token has queries from afar when it is decided.
 */
export function readingsOf(reads: readonly string[], recent: number, isDense: boolean): Reading[] {
  return signalsOf(reads).flatMap((signal) =>
    rangesOf(recent).slice(isDense && signal === "change" ? 1 : 0).map((queries) => ({ signal, queries }))
  );
}

/**
 * The key side at work on one sequence, by rules of the attention received: a spec per layer, all of one chunk.
 *
 * @param isDense As {@linkcode readingsOf} has it.
 */
export function openJudgement(
  specs: readonly LayerSpec[],
  trace?: DecisionTrace,
  backend?: FilterBackend,
  isDense = false,
): KeySequence {
  const layers = specs.map(({ layer }) => layer);
  const readings = specs.length === 0 ? [] : readingsOf(specs[0]!.reads, specs[0]!.recent, isDense);
  const policies = specs.map((spec) =>
    [spec.layer, new SignalRule(spec, createLayerState(spec), isDense, trace, backend)] as const
  );
  return new CacheSide(new Map(policies), new SignalStore(sourcesOf(readings, layers, Infinity)));
}

class SignalRule implements CachePolicy {
  #decided = 0;
  /** The rule's inputs besides signals, where it reads any, of tokens from the first one that is not decided. */
  #tokens: RowToken[] = [];
  readonly #decisions: Decisions;
  private readonly spec: LayerSpec;
  private readonly state: LayerState;
  private readonly isDense: boolean;
  private readonly trace: DecisionTrace | undefined;
  private readonly backend: FilterBackend | undefined;

  constructor(
    spec: LayerSpec,
    state: LayerState,
    isDense: boolean,
    trace?: DecisionTrace,
    backend?: FilterBackend,
  ) {
    this.spec = spec;
    this.state = state;
    this.isDense = isDense;
    this.trace = trace;
    this.backend = backend;
    this.#decisions = openDecisions(spec, state);
  }

  take({ count, keys, values, tokens }: LayerView): void {
    const { spec, state } = this;
    if (signalsOf(spec.reads).length === spec.reads.length) {
      for (let row = 0; row < count; row++) {
        this.#tokens.push(new RowToken(spec, state.numbers[SLOT.absorbed]!++, {}, row, tokens));
      }
      return;
    }
    const read = (tensor: Tensor) => this.backend?.read(tensor) ?? tensor;
    const input = { keys: read(keys), values: read(values), tokens };
    const reader = openTokens(spec, state, input, 0, count, true);
    for (let row = 0; row < count; row++) {
      this.#tokens.push(reader.look(state.numbers[SLOT.absorbed]!, row));
      reader.absorb(row);
    }
  }

  judge(at: number, signals: SignalStore): Answer {
    const { spec, state, trace } = this, first = this.#decided, [near, far] = [0, spec.recent / 2];
    while (judgedAt(this.#decided, spec) <= at) this.#decided++;
    const count = this.#decided - first, due = this.#tokens.splice(0, count);
    const sums = signalsOf(spec.reads).map((signal) => {
      const distant = signals.sums(spec.layer, signal, far), isAfar = this.isDense && signal === "change";
      return { signal, all: isAfar ? distant : signals.sums(spec.layer, signal, near), distant };
    });
    const scorer = spec.rule.memory?.open(spec, state),
      drop: number[] = [],
      rows = trace && createScanOutput(count);
    for (let row = 0; row < count; row++) {
      const token = due[row] ?? new RowToken(spec, this.#decisions.seen), position = first + row;
      for (const { signal, all, distant } of sums) {
        const afar = (distant.count(position) > 0 ? distant : all).mean(position);
        if (signal === "change") token.change = Math.sqrt(afar);
        else {
          token.attention = all.mean(position);
          token.distant = afar;
        }
      }
      const raw = scorer === undefined ? spec.rule.score!(token, spec as never) : scorer.score(token);
      const score = spec.invert ? -raw : raw, { skip, theta } = this.#decisions.decide(score);
      if (rows !== undefined) {
        rows.redundancy[row] = score;
        rows.threshold[row] = theta;
        rows.keep[row] = skip ? 0 : 1;
      }
      if (skip) drop.push(position);
      scorer?.settle?.(skip);
    }
    scorer?.close?.();
    for (const { all, distant } of sums) {
      for (const each of new Set([all, distant])) each.forget(this.#decided);
    }
    if (rows !== undefined && count > 0) trace!(rows, spec.layer, spec.chunk);
    return { drop };
  }

  fork(): SignalRule {
    const copy = new SignalRule(
      this.spec,
      cloneLayerState(this.state),
      this.isDense,
      this.trace,
      this.backend,
    );
    copy.#decided = this.#decided;
    copy.#tokens = [...this.#tokens];
    return copy;
  }
}
