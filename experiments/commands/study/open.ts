/** Opens studies by the names that users give, and reads them. */
import { UsageError } from "../../../lib/errors.ts";
import { costOf, formatMetric, type Metric } from "../../../lib/eval/metrics.ts";
import { findTask } from "../../../lib/eval/tasks/mod.ts";
import { findWrongField } from "../../../lib/sweep/fields.ts";
import { paretoFront, summarizeSweep } from "../../../lib/sweep/summary.ts";
import type { SweepSummary, Trial } from "../../../lib/sweep/trial.ts";
import { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type { StoredTrial } from "../../../lib/sweep/trials/store_records.ts";
import { isControl, methodName, requestedRatios } from "../../../lib/plot/trials/trial_label.ts";
import { isFolder } from "../cli/files.ts";
import { STUDY_FILE } from "../cli/run/resume.ts";
import { expectRecords } from "../cli/run/study_store.ts";
import { findWrongTask } from "../task/file.ts";

/** The file of a study, from its own name or its folder's. */
export function pathOfStudy(path: string): string {
  return isFolder(path) ? `${path.replace(/(?<=.)\/+$/, "")}/${STUDY_FILE}` : path;
}

/** Opens a study that is named by its file or by its folder. @throws {UsageError} As `StudyStore.open`. */
export function openNamed(path: string): StudyStore {
  return StudyStore.open(pathOfStudy(path));
}

/** @throws {UsageError} If a study's task is of a file that was not given. */
function expectTask({ path, conditions }: StudyStore): void {
  const wrong = findWrongTask(conditions);
  if (wrong !== undefined) throw new UsageError(`Cannot show study "${path}": ${wrong}`);
}

/** Trials as a summary. @throws {UsageError} If none has been run yet, or as {@linkcode listShort}. */
export function summaryOf(store: StudyStore, trials: readonly Trial[] = store.finished()): SweepSummary {
  expectTask(store);
  expectRecords(store.path, trials);
  const dense = store.get("dense"), environment = store.get("environment");
  if (dense === undefined || environment === undefined) {
    throw new UsageError(`Cannot show study "${store.path}": no worker has begun on it`);
  }
  return summarizeSweep(trials, dense, environment);
}

export interface ShortTrial {
  readonly number: number;
  readonly state: string;
  /** The method's name in tables. */
  readonly method: string;
  /** The requested ratio. */
  readonly asked: string;
  /** Whether it is a control, which never counts as the best. */
  readonly isControl: boolean;
  /** Fraction of the full model's operations in attention; undefined where there is no result. */
  readonly spent: number | undefined;
  /** The task's headline; undefined where there is no result. */
  readonly value: number | undefined;
  /** Whether it is on the Pareto front of both; non-causal methods are left out. */
  readonly pareto: boolean;
  /** Options that not all trials share. */
  readonly options: { readonly [name: string]: unknown };
}

export interface ShortStudy {
  readonly headline: Metric;
  readonly trials: readonly ShortTrial[];
  readonly varying: readonly string[];
}

/** All trials in short: without parsing their records. @throws {UsageError} If the task is of a file that was not given. */
export function listShort(store: StudyStore): ShortStudy {
  expectTask(store);
  const { headline } = findTask(store.conditions.task);
  const names = [headline.name, "attentionFlopsDense", "attentionFlopsAvoided", "nonCausal"];
  const rows = store.fields(names) as { readonly [name: string]: number | null }[];
  const stored = store.trials().map((trial) => ({ ...trial, options: expectOptions(store, trial) }));
  const odd = rows.findIndex((row) => !names.every((name) => typeof (row[name] ?? 0) === "number"));
  if (odd >= 0) {
    throw new UsageError(
      `Cannot show study "${store.path}": found no numbers in the result of trial ${stored[odd]!.number}`,
    );
  }
  const first = stored[0]?.options as { readonly [name: string]: unknown } | undefined;
  const same = new Map(Object.entries(first ?? {}).map(([name, value]) => [name, JSON.stringify(value)]));
  const varies = new Set<string>();
  for (const { options } of stored) {
    for (const [name, value] of Object.entries(options)) {
      if (!varies.has(name) && JSON.stringify(value) !== same.get(name)) varies.add(name);
    }
  }
  const spent = rows.map((row) =>
    row.attentionFlopsDense ? 1 - row.attentionFlopsAvoided! / row.attentionFlopsDense : NaN
  );
  const front = paretoFront(
    spent.map((share, i) =>
      rows[i]!.nonCausal || isControl(stored[i]!.options) ? NaN : -Math.round(100 * share)
    ),
    rows.map((row) => costOf(headline, row[headline.name] ?? NaN)),
  );
  const varying = [...varies];
  const trials = stored.map(({ number, state, options }, i) => ({
    number,
    state,
    // Computed only where it is shown: a study may have thousands of trials.
    get method() {
      return methodName(options);
    },
    get asked() {
      return requestedRatios(options);
    },
    isControl: isControl(options),
    spent: Number.isNaN(spent[i]!) ? undefined : spent[i]!,
    value: rows[i]![headline.name] ?? undefined,
    pareto: front[i]!,
    options: Object.fromEntries(
      varying.map((name) => [name, (options as unknown as Record<string, unknown>)[name]]),
    ),
  }));
  return { headline, trials, varying };
}

export function tabulateShort({ headline, trials, varying }: ShortStudy) {
  const shown = (value: unknown) => value === undefined || value === null ? "-" : String(value);
  return {
    columns: ["trial", "state", "method", "ratio", ...varying, headline.label, "attn FLOPs"],
    left: [false, true, true, true, ...varying.map(() => false), false, false],
    rows: trials.map(({ number, state, method, asked, value, spent, options, pareto }) => [
      ...[String(number), pareto ? `${state} *` : state, method, asked],
      ...varying.map((name) => shown(options[name])),
      value === undefined ? "-" : formatMetric(headline, value),
      spent === undefined ? "-" : `${(100 * spent).toFixed(0)}%`,
    ]),
  };
}

/** The trials that have a result, the best first, controls left out. */
export function bestFirst({ headline, trials }: ShortStudy): ShortTrial[] {
  return trials.filter(({ value, isControl }) => value !== undefined && !isControl)
    .sort((a, b) => costOf(headline, a.value!) - costOf(headline, b.value!));
}

/** The best of a study in words: `ppl 41.95 by learned at 0.15`, with the requested ratio. */
export function describeBest(study: ShortStudy): string {
  const { headline } = study, [best] = bestFirst(study);
  if (best === undefined) return "-";
  return sayBest(headline, best.value!, best.method, best.asked);
}

const sayBest = (headline: Metric, value: number, method: string, ratio: string) =>
  `${headline.label} ${formatMetric(headline, value)} by ${method} at ${ratio}`;

/** Trials that are looked at in one go. */
const GLANCED = 100;

/** The same of a study with many trials: only the records of the best are read. */
export function glanceBest(store: StudyStore): string {
  if (store.get("command") !== undefined) return "-"; // no sweep: it has no trials
  expectTask(store);
  const { headline } = findTask(store.conditions.task);
  for (let from = 0;; from += GLANCED) {
    const ranked = store.ranked(headline.name, headline.better === "lower", from, GLANCED);
    const best = ranked.find(({ trial }) => !isControl(expectOptions(store, trial)));
    if (best === undefined && ranked.length === GLANCED) continue;
    if (best === undefined) return "-";
    const { options } = best.trial;
    return sayBest(headline, best.value, methodName(options), requestedRatios(options));
  }
}

/** Options of a stored trial. @throws {UsageError} If a value is none that the option takes: the file is a stranger's. */
function expectOptions(store: StudyStore, { number, options }: StoredTrial): StoredTrial["options"] {
  const wrong = findWrongField(Object(options), {});
  if (wrong === undefined) return options;
  throw new UsageError(`Cannot show study "${store.path}": trial ${number}, ${wrong}`);
}
