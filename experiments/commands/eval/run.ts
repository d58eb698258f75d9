/** Runs items one after the other, each on disk before the next begins. */
import { type EncodedItem, type ItemScore, ItemScorer, yieldToEventLoop } from "../../../lib/eval/mod.ts";
import { FIELD, type FinishedRuns, type LineKind, type LogLine, RunLog } from "../../../lib/sweep/mod.ts";
import { countTokens, type PlannedTask } from "./plan.ts";

/** A finished item of a run. */
export interface ItemLine extends LogLine {
  readonly model: string;
  readonly backend: string;
  readonly version: string;
  /** The method; of a dense evaluation "dense". */
  readonly method: string;
  /** Which run of the item: "dense", "filtered", or the digest of a method among several. */
  readonly run: string;
  readonly task: string;
  /** Digest of the task's data. */
  readonly dataSha256: string;
  readonly id: string;
  readonly score: ItemScore;
  /** Its part of the wall time of the item, whose runs are computed together: an equal one. */
  readonly timeMs: number;
}

const isScore = (value: unknown) => {
  const score = value as Partial<ItemScore> | null;
  return typeof score === "object" && Array.isArray(score?.logLikelihoods) && Array.isArray(score.greedy) &&
    [score.reach, score.skips, score.usage].every((part) => typeof part === "object");
};

/** Lines of the log. */
export const ITEM_LINES: LineKind<ItemLine> = {
  noun: "item",
  describe: ({ model, backend, version, method }) =>
    `model ${model}, backend ${backend}, version ${version}, method ${method}, or other options`,
  fields: {
    run: FIELD.text,
    task: FIELD.text,
    dataSha256: FIELD.text,
    id: FIELD.text,
    timeMs: FIELD.number,
    score: ["an item's score", isScore],
  },
};

/** A task's items, and what runs them. */
export interface ItemWork {
  readonly task: string;
  readonly dataSha256: string;
  readonly items: readonly EncodedItem[];
}

/** What there is to run of planned tasks. */
export const workOf = (planned: readonly PlannedTask[]): ItemWork[] =>
  planned.map(({ task, sha256, encoded }) => ({ task: task.name, dataSha256: sha256, items: encoded }));

/**
 * The items that a log holds, also those of tasks that are not run now.
 *
 * @throws {RangeError} As `RunLog.read`, or if items of a task are of other data.
 */
export function readItems(path: string, runDigest: string, work: readonly ItemWork[]): readonly ItemLine[] {
  const finished = RunLog.read(path, runDigest, ITEM_LINES);
  const other = finished.find((line) =>
    work.some(({ task, dataSha256 }) => task === line.task && dataSha256 !== line.dataSha256)
  );
  if (other === undefined) return finished;
  throw new RangeError(
    `Cannot go on with "${path}": its items of ${other.task} are of other data, expected the same ` +
      "(repeat those flags, leave that task out, or take another --out)",
  );
}

/** Opens the log of {@linkcode readItems} to go on with it. @throws {RangeError} As there. */
export function openItems(path: string, runDigest: string, work: readonly ItemWork[]): RunLog<ItemLine> {
  readItems(path, runDigest, work);
  return RunLog.open(path, runDigest, ITEM_LINES);
}

/** How a run goes on. */
export interface RunItems {
  readonly work: readonly ItemWork[];
  readonly scorers: { readonly [run: string]: ItemScorer };
  readonly log: FinishedRuns<ItemLine>;
  /** What every line says. */
  readonly line: Pick<ItemLine, "runDigest" | "model" | "backend" | "version" | "method">;
  readonly signal: AbortSignal;
  /** Called after each item with the finished share of this run's work. */
  readonly onItem: (fraction: number, task: string, done: number, of: number) => void;
  /** Called when a task is over. */
  readonly onTask: (task: string, runs: RunScores) => void;
}

/** Scores of a task, one an item, and how long they took. */
export interface TaskScores {
  readonly scores: ItemScore[];
  readonly timeMs: number;
}

/** Those of each run. */
export type RunScores = { readonly [run: string]: TaskScores };

/**
 * Runs every item that the log does not hold yet.
 *
 * @returns The scores of each task and run.
 * @throws The signal's reason, if it is aborted between two items.
 */
export async function runItems(args: RunItems): Promise<Map<string, RunScores>> {
  const { work, scorers, log, line, signal, onItem, onTask } = args;
  const keyOf = (task: string, id: string, run: string) => JSON.stringify([task, id, run]);
  const finished = new Map(log.finished.map((own) => [keyOf(own.task, own.id, own.run), own]));
  const runs = Object.entries(scorers);
  const isOpen = (task: string, { item }: EncodedItem) =>
    runs.some(([run]) => !finished.has(keyOf(task, item.id, run)));
  const total = work.flatMap(({ task, items }) => items.filter((own) => isOpen(task, own)).map(countTokens))
    .reduce((a, b) => a + b, 0);
  let worked = 0;
  const results = new Map<string, RunScores>();
  for (const { task, dataSha256, items } of work) {
    const lines = new Map<string, ItemLine[]>(runs.map(([run]) => [run, []]));
    for (const [i, encoded] of items.entries()) {
      const { id } = encoded.item, known = runs.map(([run]) => finished.get(keyOf(task, id, run)));
      const open = runs.filter((_, i) => known[i] === undefined);
      if (open.length > 0) {
        await yieldToEventLoop();
        signal.throwIfAborted();
        const begin = performance.now();
        const scores = ItemScorer.scoreTogether(open.map(([, scorer]) => scorer), encoded);
        const timeMs = (performance.now() - begin) / open.length;
        const found = open.map(([run], i) => ({
          ...line,
          run,
          task,
          dataSha256,
          id,
          score: scores[i]!,
          timeMs,
        }));
        log.append(...found);
        for (const own of found) known[runs.findIndex(([run]) => run === own.run)] = own;
        worked += countTokens(encoded);
      }
      runs.forEach(([run], i) => lines.get(run)!.push(known[i]!));
      onItem(total === 0 ? 1 : worked / total, task, i + 1, items.length);
    }
    const scores = Object.fromEntries([...lines].map(([run, own]) => [run, {
      scores: own.map(({ score }) => score),
      timeMs: own.reduce((sum, { timeMs }) => sum + timeMs, 0),
    }]));
    results.set(task, scores);
    onTask(task, scores);
  }
  return results;
}
