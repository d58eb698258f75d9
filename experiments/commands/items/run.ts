/** Runs the items of a plan dense and with methods, one after the other, each on disk before the next begins. */
import { UsageError } from "../../../lib/errors.ts";
import { yieldToEventLoop } from "../../../lib/eval/chunks/chunks.ts";
import type { EncodedItem } from "../../../lib/eval/items/encoded_item.ts";
import { countTokens } from "../../../lib/eval/items/item_evaluation.ts";
import { type ItemScore, ItemScorer } from "../../../lib/eval/items/item_scorer.ts";
import { budgetOf, reachesNothing } from "../../../lib/eval/items/item_summary.ts";
import type { ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import type { Model } from "../../../lib/model/model.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type { FinishedRuns } from "../../../lib/sweep/trials/store_records.ts";
import type { Running } from "../run_study.ts";
import { asksToFilter, type ItemPlan, type PlannedTask, refuseUnreached, type Unreached } from "./plan.ts";

export interface ItemUnit {
  /** Which run of the item: "dense", "filtered", or the digest of a method among several. */
  readonly run: string;
  readonly task: string;
  readonly dataSha256: string;
  readonly filterFrom?: string;
  readonly id: string;
  readonly score: ItemScore;
  /** Its part of the wall time of the item. The item's runs are computed together, so all parts are equal. */
  readonly timeMs: number;
}

export interface ItemLog extends FinishedRuns<ItemUnit> {
  readonly path: string;
  readonly filterFrom: string | undefined;
}

/**
 * The items that a study holds, also those of tasks that are not run now.
 *
 * @throws {UsageError} If items of a task are of other data, or filtered from elsewhere.
 */
export function openItems(
  store: StudyStore,
  { planned, from }: ItemPlan,
): ItemLog {
  const { path } = store, filterFrom = from?.text;
  const units = store.units<ItemUnit>("item", ({ task, id, run }) => keyOf(task, id, run));
  const refuse = (what: string) =>
    new UsageError(
      `Cannot go on with "${path}": ${what} (repeat those flags, leave that task out, or take another --out)`,
    );
  for (const { task, dataSha256, filterFrom: before = "--warmup" } of units.finished) {
    const own = planned.find((own) => own.task.name === task), now = filterFrom ?? "--warmup";
    if (own === undefined) continue;
    if (own.data.sha256 !== dataSha256) {
      throw refuse(`its items of ${task} are of other data, expected the same`);
    }
    if (before !== now) {
      throw refuse(`its items of ${task} were filtered from ${before}, expected the same, found ${now}`);
    }
  }
  return { ...units, path, filterFrom };
}

const keyOf = (task: string, id: string, run: string) => JSON.stringify([task, id, run]);

/** A method, as one run of each item or as several: one per seed. */
interface ItemMethod {
  /** In messages, where there are several. */
  readonly name?: string;
  readonly options: ResolvedOptions;
  readonly runs: readonly { readonly run: string; readonly prunerFor: (contextTokens: number) => Pruner }[];
}

/** What a method filtered of a task, over all its runs, and their duration. */
interface MethodBudget<Method> {
  readonly method: Method;
  readonly task: string;
  readonly timeMs: number;
  readonly budget: ReturnType<typeof budgetOf>;
}

interface ScoreItems<Method> {
  readonly plan: ItemPlan;
  readonly methods: readonly Method[];
  readonly model: Model;
  readonly log: ItemLog;
  /** The fix to offer, besides a shorter warm-up, for a method that filtered nothing. */
  readonly instead: string;
}

/**
 * Scores every item of a plan dense and with every method.
 *
 * @returns The scores of each task and run, "dense" among them, and what each method filtered of each task.
 * @throws {UsageError} If a method reached no scored position of a task: its numbers would be the full model's. All
 * scores are on disk by then.
 * @throws The signal's reason, if it is aborted between two items.
 */
export async function scoreItems<Method extends ItemMethod>(
  { plan: { planned }, methods, model, log, instead }: ScoreItems<Method>,
  { interrupt: { signal }, progress }: Pick<Running, "interrupt" | "progress">,
): Promise<{ scores: ReadonlyMap<string, RunScores>; budgets: readonly MethodBudget<Method>[] }> {
  using scorers = new DisposableStack();
  const runs = [{ run: "dense", prunerFor: undefined }, ...methods.flatMap(({ runs }) => runs)];
  const opened = runs.map(({ run, prunerFor }) =>
    [run, scorers.use(new ItemScorer(model, prunerFor))] as const
  );
  const budgets: MethodBudget<Method>[] = [], unreached: Unreached[] = [];
  const scores = await runItems({
    ...{ planned, scorers: Object.fromEntries(opened), log, signal },
    onItem: (fraction, label) => progress.step(fraction, label),
    onTask: (own, scored) => {
      for (const method of methods) {
        const all = method.runs.map(({ run }) => scored[run]!);
        const budget = budgetOf(
          all.flatMap(({ scores }) => scores),
          model.config.numLayers,
          scored["dense"]!.scores,
        );
        const timeMs = all.reduce((sum, { timeMs }) => sum + timeMs, 0);
        budgets.push({ method, task: own.task.name, timeMs, budget });
        if (!asksToFilter(method.options) || !reachesNothing(budget)) continue;
        unreached.push({ planned: own, prunerFor: method.runs[0]!.prunerFor, method: method.name });
      }
    },
  });
  const items = planned.reduce((sum, { items }) => sum + items.length, 0);
  refuseUnreached(unreached, { path: log.path, scores: items * runs.length }, instead);
  return { scores, budgets };
}

interface RunItems {
  readonly planned: readonly PlannedTask[];
  readonly scorers: { readonly [run: string]: ItemScorer };
  readonly log: ItemLog;
  readonly signal: AbortSignal;
  /** Called after each item with the finished fraction of this run's work. */
  readonly onItem: (fraction: number, label: string) => void;
  readonly onTask: (planned: PlannedTask, runs: RunScores) => void;
}

/** Scores of a task, one per item, and their duration. */
export interface TaskScores {
  readonly scores: ItemScore[];
  readonly timeMs: number;
}

export type RunScores = { readonly [run: string]: TaskScores };

/**
 * Runs every item that the log does not hold yet.
 *
 * @returns The scores of each task and run.
 * @throws The signal's reason, if it is aborted between two items.
 */
async function runItems(args: RunItems): Promise<Map<string, RunScores>> {
  const { planned, scorers, log, signal, onItem, onTask } = args, { filterFrom } = log;
  const finished = new Map(log.finished.map((own) => [keyOf(own.task, own.id, own.run), own]));
  const runs = Object.entries(scorers);
  const isOpen = (task: string, { item }: EncodedItem) =>
    runs.some(([run]) => !finished.has(keyOf(task, item.id, run)));
  const total = planned.flatMap(({ task: { name }, encoded }) =>
    encoded.filter((own) => isOpen(name, own)).map(countTokens)
  ).reduce((a, b) => a + b, 0);
  let worked = 0;
  const results = new Map<string, RunScores>();
  for (const own of planned) {
    const { task: { name: task }, data: { sha256: dataSha256 }, encoded: items } = own;
    for (const [i, encoded] of items.entries()) {
      const { id } = encoded.item, open = runs.filter(([run]) => !finished.has(keyOf(task, id, run)));
      if (open.length > 0) {
        await yieldToEventLoop();
        signal.throwIfAborted();
        const begin = performance.now();
        const scores = ItemScorer.scoreTogether(open.map(([, scorer]) => scorer), encoded);
        const timeMs = (performance.now() - begin) / open.length;
        const found = open.map(([run], i): ItemUnit => ({
          ...{ run, task, dataSha256, id, score: scores[i]!, timeMs },
          ...(filterFrom !== undefined && { filterFrom }),
        }));
        log.append(...found);
        for (const unit of found) finished.set(keyOf(task, id, unit.run), unit);
        worked += countTokens(encoded);
      }
      onItem(total === 0 ? 1 : worked / total, `${task} ${i + 1}/${items.length}`);
    }
    const scores = Object.fromEntries(runs.map(([run]) => {
      const units = items.map(({ item }) => finished.get(keyOf(task, item.id, run))!);
      const timeMs = units.reduce((sum, { timeMs }) => sum + timeMs, 0);
      return [run, { scores: units.map(({ score }) => score), timeMs }];
    }));
    results.set(task, scores);
    onTask(own, scores);
  }
  return results;
}
