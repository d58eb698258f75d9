/**
 * `deno task compare`: several methods at the same ratio on the same text, with intervals of their differences.
 *
 * Writes `compare.json` and `compare.html` to a folder, beside the study of all chunks and items. See
 * `deno task compare --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { ownRule } from "../../lib/methods/mod.ts";
import {
  MISSED_NOTE,
  readPlotly,
  renderComparisonReport,
  RESULT_COLUMNS,
  tabulateComparison,
  tabulateResults,
} from "../../lib/plot/mod.ts";
import { plural } from "../../lib/plural.ts";
import {
  COMPARED_METHODS,
  comparedAtRatios,
  type ComparedChunk,
  comparedMethods,
  compareStudy,
  type MethodGroup,
  type NamedMethod,
} from "../../lib/sweep/mod.ts";
import { readOptions } from "./cli/flags/method.ts";
import { type FlagValues, textOf } from "./cli/flags/parse.ts";
import { readCount } from "./cli/flags/text.ts";
import type { Progress } from "./cli/output/progress.ts";
import { describePlan, readPlan, readTaskName, startStudy } from "./cli/run/study.ts";
import { expectStudy } from "./cli/run/study_store.ts";
import { checkFlags, runTask } from "./cli/task.ts";
import { asksForItems, isOfText, type ItemOutcome, planItems, runComparedItems } from "./compare/items.ts";
import { readFilterFlag, readTasks } from "./eval/plan.ts";
import { openItems } from "./eval/run.ts";
import { type Asked, type Running, studyCommand } from "./run.ts";

/** Columns that a narrow terminal does without, the first one first. */
export const SPARE_COLUMNS = [
  "labels",
  "to protected",
  "gap closed",
  "vs control",
  "loss",
  "ppl",
  "proj FLOPs",
  "params",
  "pairs",
  "KV dropped",
  "Q skipped",
  "KV held",
  "attn FLOPs",
  "to random",
];

/** The same of the table of a comparison with items. */
const SPARE_RESULT_COLUMNS = [
  "proj FLOPs",
  "params",
  "KV held",
  "detectable",
  "own",
  "missed keys",
  "units",
  "to dense",
  "vs dense",
];

/** Seeds of random, at most: each is a run of its own. */
const MAX_SEEDS = 10_000;

/** Flags whose place --methods takes. */
const REPLACED = ["fusion", "invert", "preset"];

async function readMethods(values: FlagValues): Promise<NamedMethod[]> {
  const wrong = REPLACED.find((name) => values.has(name));
  if (wrong !== undefined) {
    throw new UsageError(
      `Cannot use --${wrong} in a comparison: expected --methods, as in --methods random,learned`,
    );
  }
  const seeds = readCount(values, "seeds", 1, MAX_SEEDS) ?? 5, ratios = readRatios(values);
  const given = textOf(values, "methods"), own = ownRule()?.rule.name;
  const all = [...COMPARED_METHODS, ...own === undefined ? [] : [own]];
  const names = given === undefined ? all : given.split(",").map((name) => name.trim());
  const base = await readOptions("compare", values);
  return checkFlags(() =>
    ratios === undefined ? comparedMethods(names, base, seeds) : comparedAtRatios(names, base, seeds, ratios)
  );
}

/** Reads `--ratios`. @throws {UsageError} If one is no share, or one side has a ratio of its own. */
function readRatios(values: FlagValues): number[] | undefined {
  const text = textOf(values, "ratios");
  if (text === undefined) return undefined;
  const own = ["prune-ratio", "kv-ratio", "skip-ratios"].find((name) => values.has(name));
  if (own !== undefined) throw new UsageError(`Cannot use --ratios with --${own}: expected one of them`);
  const ratios = text.split(",").map((part) => /^0?\.\d+$/.test(part.trim()) ? Number(part) : NaN);
  if (ratios.every((ratio) => ratio > 0)) return ratios;
  throw new UsageError(`Cannot use --ratios ${text}: expected shares between 0 and 1, as in 0.3,0.5`);
}

async function readFlags({ values }: Asked) {
  const methods = await readMethods(values), task = readTaskName(values), hasText = isOfText(task);
  const hasItems = asksForItems(values, hasText), tasks = hasItems ? await readTasks(values) : [];
  const from = readFilterFlag(values, hasText);
  if (from !== undefined && !hasItems && hasText) {
    throw new UsageError(
      "Cannot use --filter-from: expected --data or --tasks, a text is filtered from --warmup on",
    );
  }
  return { methods, hasItems, tasks, from, task };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan({ methods, hasItems, tasks, from }: Flags, { values, progress, request, named }: Asked) {
  const options = methods.map(({ options }) => options);
  const plan = await readPlan(values, options, progress, named);
  const items = hasItems ? await planItems(tasks, from, plan.model, methods) : undefined;
  const started = await startStudy(plan, request, options, progress, expectStudy(named));
  return { ...started, methods, items, line: `${plural(methods.length, "run")} on ${started.what}` };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** Shows which method is at work; where there is no terminal, each by a line. */
function tellMethod(progress: Progress): (fraction: number, name: string) => void {
  let before = "";
  return (fraction, name) => {
    progress.bar(fraction, name);
    if (name !== before && !progress.isTerminal) {
      progress.line([name, progress.eta(fraction)].filter((part) => part !== "").join(": "));
    }
    before = name;
  };
}

async function work({ study, methods, items }: Plan, running: Running) {
  const { store, interrupt, memory, progress } = running;
  const log = store.units<ComparedChunk>("chunk", ({ trial, chunk }) => `${trial} ${chunk}`);
  const itemLog = items && openItems(store, items.planned, items.from);
  let outcome: ItemOutcome | undefined;
  const onItems = async (groups: readonly MethodGroup[]) => {
    outcome = await runComparedItems(items!, groups, study.model.model, itemLog!, running);
    return outcome.series;
  };
  const compared = await compareStudy(study, methods, {
    ...{ log, signal: interrupt.signal, onProgress: tellMethod(progress) },
    ...(items && { onItems }),
  });
  const environment = { ...compared.environment, peakMemoryBytes: memory.peakBytes };
  return { ...compared, environment, ...(outcome && { items: outcome.items }) };
}

export const { main, USAGE } = studyCommand({
  task: "compare",
  about: `deno task compare [flags]

Runs several methods at the same share of skipped queries (or dropped keys and values) on the same text, and shows their
losses against the dense model and against chance, with intervals over resampled blocks of the text: a table on stdout, and compare.json and
compare.html in --out. Flags of the method are shared by all; --methods says which ones run, in place of --fusion,
--invert and --preset (presets keep what they set, as "paper" its recent window of 0). Each method is held against the
controls that have its own side, substitute, schedule, window and warm-up. --ratios runs all of them at several shares.
With --data or --tasks they answer the items of eval too, and a row is a metric of a method: better, worse or not told
apart from dense, from its control and from the best other method. Ctrl-C keeps finished chunks and items; --resume goes on, with other
tasks of items too.`,
  examples: [
    "",
    "--methods random,oracle,learned,paper --prune-ratio 0.3",
    "--model smollm2-135m --text FILE --seeds 10",
    "--ratios 0.3,0.5 --data DIR --tasks piqa,arc_easy --items 100 --filter-from 25%",
  ],
  listsRule: true,
  result: "compare.json",
  flags: readFlags,
  columns: ({ hasItems, task: environment }) =>
    hasItems ? RESULT_COLUMNS : checkFlags(() => tabulateComparison({ methods: [], environment })).columns,
  plan,
  work,
  kept(store) {
    const scores = store.countUnits("item");
    return scores > 0
      ? { finished: scores, noun: "score" }
      : { finished: store.countUnits("chunk"), noun: "chunk" };
  },
  pages: async (comparison) => ({
    "compare.html": renderComparisonReport(comparison, { plotly: await readPlotly() }),
    "compare.json": JSON.stringify(comparison, null, 2) + "\n",
  }),
  table: (comparison, { items, study }, saved) => ({
    table: items ? tabulateResults(comparison) : tabulateComparison(comparison),
    spare: items ? SPARE_RESULT_COLUMNS : SPARE_COLUMNS,
    json: () => JSON.stringify(comparison, null, 2),
    records: items ? comparison.results! : comparison.methods,
    notes: [
      ...(comparison.methods.some(({ missed }) => missed) ? [`${MISSED_NOTE}.`] : []),
      `95% intervals in brackets. ${describePlan(study)}.`,
      ...(saved === undefined ? [] : [`Report: ${saved}/compare.html`]),
    ],
  }),
});

if (import.meta.main) await runTask(main, USAGE);
