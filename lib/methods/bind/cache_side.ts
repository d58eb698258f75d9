/** The key side where decisions wait for signals: a policy per layer decides at block starts, by a store of signals. */
import type { ShownRows, Signals } from "../protocol/signals.ts";
import type { Answer, KeySequence, LayerView } from "../protocol/pruner.ts";
import type { SignalStore } from "./signal_store.ts";

/** Decides the keys and values of one layer of one sequence. */
export interface CachePolicy {
  /** Takes the next tokens in. */
  take(view: LayerView): void;
  /** The evictions at a block start. */
  judge(at: number, signals: SignalStore): Answer;
  fork(): CachePolicy;
}

export class CacheSide implements KeySequence {
  private readonly policies: ReadonlyMap<number, CachePolicy>;
  private readonly signals: SignalStore;

  /** @param policies By layer. */
  constructor(policies: ReadonlyMap<number, CachePolicy>, signals: SignalStore) {
    this.policies = policies;
    this.signals = signals;
  }

  decide(view: LayerView): Answer {
    this.policies.get(view.layer)!.take(view);
    return {};
  }

  observe(layer: number, signals: Signals): void {
    this.signals.add(layer, signals);
  }

  show(layer: number, rows: ShownRows): void {
    this.signals.show(layer, rows);
  }

  judge(layer: number, at: number): Answer {
    const answer = this.policies.get(layer)!.judge(at, this.signals);
    this.signals.settle(layer, at);
    return answer;
  }

  fork(): CacheSide {
    const policies = [...this.policies].map(([layer, policy]) => [layer, policy.fork()] as const);
    return new CacheSide(new Map(policies), this.signals.fork());
  }
}
