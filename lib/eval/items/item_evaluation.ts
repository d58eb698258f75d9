/** Items, one by one: the full model once, then any number of methods on the same items. */
import type { Pruner } from "../../methods/protocol/pruner.ts";
import type { EncodedItem } from "./encoded_item.ts";
import { type ChunkScores, type MeanOf, TaskEvaluation } from "../evaluation.ts";
import { type ItemScore, ItemScorer } from "./item_scorer.ts";
import type { ItemSaid } from "./item_source.ts";
import { isIdentical } from "./item_summary.ts";
import type { BranchingModel } from "../language_model.ts";
import type { TaskMeasures, UnitMetrics } from "../metrics.ts";
import type { ChunkRecord, Filter, RunControl, TaskTypes } from "../task.ts";
import { disposing } from "../../disposing.ts";

/** Scores of an item besides its loss: one number per metric, the effects of the filter, and the generated tokens. */
type ItemScores = ChunkScores & { readonly [name: string]: Float64Array };

export const filterFor = (filter: Filter): (contextTokens: number) => Pruner =>
  typeof filter === "function" ? filter : () => filter;

/** Tokens that an item is fed as, at most: contexts are computed once. */
export function countTokens({ requests }: EncodedItem): number {
  const contexts = new Map(requests.map(({ context }) => [context.join(), context.length]));
  const fed = requests.reduce((sum, { continuation }) => sum + continuation.length - 1, 0);
  return [...contexts.values()].reduce((a, b) => a + b, fed);
}

/** Evaluates methods against the full model on items, each a loss. */
export class ItemEvaluation extends TaskEvaluation<TaskTypes, ItemScores> {
  readonly #source: ItemSaid;
  readonly #model: BranchingModel;
  readonly #items: readonly EncodedItem[];
  readonly #dense: ItemScorer;
  #filtered: { readonly filter: Filter; readonly scorer: ItemScorer } | undefined;

  /**
   * Prepares an evaluation; nothing is computed yet.
   *
   * @throws {RangeError} If there is no item.
   */
  constructor(task: TaskMeasures, source: ItemSaid, model: BranchingModel, items: readonly EncodedItem[]) {
    if (items.length === 0) throw new RangeError("Cannot evaluate items: found none, expected at least one");
    super(task, items.map(countTokens));
    this.#source = source;
    this.#model = model;
    this.#items = items;
    this.#dense = new ItemScorer(model);
  }

  protected override warmUp(): void {
    disposing(new ItemScorer(this.#model), (scorer) => scorer.score(this.#items[0]!));
  }

  protected override scoreDense(unit: number): ChunkRecord {
    return this.#record(unit, this.#dense);
  }

  protected override scoreFiltered(unit: number, filter: Filter): ChunkRecord {
    if (this.#filtered?.filter !== filter) {
      this.#filtered?.scorer[Symbol.dispose]();
      this.#filtered = { filter, scorer: new ItemScorer(this.#model, filterFor(filter)) };
    }
    const record = this.#record(unit, this.#filtered.scorer);
    const dense = this.denseRecord(unit).scores, { generatedIds, logLikelihoods } = record.scores;
    const identical = isIdentical(
      { logLikelihoods: logLikelihoods!, generatedIds },
      { logLikelihoods: dense["logLikelihoods"]!, generatedIds: dense["generatedIds"] },
    );
    const distances = (this.#source.distances ?? []).map(({ name, between }) =>
      [name, [between(dense["generatedIds"]!, generatedIds!)]] as const
    );
    const scores = {
      ...{ ...record.scores, denseLosses: dense["losses"]!, identical: [Number(identical)] },
      ...Object.fromEntries(distances),
    };
    return { ...record, scores };
  }

  override async run(filter: Filter, control: RunControl = {}): Promise<TaskTypes["filtered"]> {
    try {
      return await super.run(filter, control);
    } finally {
      this.#filtered?.scorer[Symbol.dispose]();
      this.#filtered = undefined;
      this.#dense[Symbol.dispose]();
    }
  }

  /** Scores an item; the time is that of its logits too. */
  #record(unit: number, scorer: ItemScorer): ChunkRecord {
    const encoded = this.#items[unit]!, { item, requests } = encoded, begin = performance.now();
    const { skips, drops, usage, ...found } = scorer.score(encoded);
    const timeMs = performance.now() - begin, sequences = requests.length + (item.sought ? 1 : 0);
    return {
      chunk: unit,
      scores: this.#scoresOf(item, found),
      skips,
      ...(drops && { drops }),
      usage: {
        ...usage,
        parametersDense: usage.parametersDense / sequences,
        parametersAvoided: usage.parametersAvoided / sequences,
      },
      timeMs,
    };
  }

  #scoresOf(
    item: EncodedItem["item"],
    found: Omit<ItemScore, "skips" | "drops" | "usage">,
  ): { [name: string]: readonly number[] } {
    const { metrics: [main, ...metrics] } = this.#source, value = main.of(item, found);
    const { missedKeys, ownSkips, positions } = found.reach, { numLayers } = this.#model.config;
    return {
      losses: [main.better === "higher" ? 1 - value : value],
      ...Object.fromEntries(metrics.map((metric) => [metric.name, [metric.of(item, found)]])),
      ...{ missedKeys: [missedKeys / positions], ownSkips: [ownSkips / (numLayers * positions)] },
      logLikelihoods: found.logLikelihoods,
      ...(found.generatedIds && { generatedIds: found.generatedIds }),
    };
  }

  protected override metricsOf(scores: ItemScores): UnitMetrics {
    const { metrics: [, ...metrics], distances = [] } = this.#source;
    return Object.fromEntries([...metrics, ...distances].map(({ name }) => [name, scores[name]!]));
  }

  protected override summarize(
    scores: readonly ItemScores[],
    meanOf: MeanOf,
    isDense: boolean,
  ): { readonly [metric: string]: number } {
    const { metrics: [main, ...metrics], distances = [] } = this.#source;
    const mean = (name: string) => meanOf(scores.map((own) => own[name]!));
    const means = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, mean(name)]));
    const chances = this.#items.map(({ item }) => main.chanceOf?.(item) ?? NaN);
    const chance = chances.reduce((sum, own) => sum + own, 0) / chances.length;
    return {
      ...Object.fromEntries(
        metrics.map(({ name, fromMean = (mean) => mean }) => [name, fromMean(mean(name))]),
      ),
      ...(isDense
        ? Number.isNaN(chance) ? {} : { chance }
        : means([...distances.map(({ name }) => name), "missedKeys", "ownSkips", "identical"])),
    };
  }
}
