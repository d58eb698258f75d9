/**
 * `deno task compare`: several methods at the same ratio on the same text, with intervals of their differences.
 *
 * Writes `compare.json` and `compare.html` to a folder, and keeps finished chunks there until then. See
 * `deno task compare --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import {
  MISSED_NOTE,
  plural,
  readPlotly,
  renderComparisonReport,
  RESULT_COLUMNS,
  tabulateComparison,
  tabulateResults,
} from "../../lib/plot/mod.ts";
import {
  COMPARED_LINES,
  COMPARED_METHODS,
  comparedAtRatios,
  comparedMethods,
  compareStudy,
  type MethodGroup,
  type NamedMethod,
  readVersion,
  RunLog,
} from "../../lib/sweep/mod.ts";
import { sha256 } from "../../lib/sha256.ts";
import { readBackend } from "./cli/backend.ts";
import { exists, writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { readAxes } from "./cli/method.ts";
import { MemoryWatch } from "./cli/memory.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { takeFiles } from "./cli/rule.ts";
import { claimFolder, endEarly, readDestination, saveResults } from "./cli/resume.ts";
import { countTokens, describePlan, readPlan, readTaskName, startStudy } from "./cli/study.ts";
import { printTable, readTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask } from "./cli/task.ts";
import { readCount } from "./cli/text.ts";
import { asksForItems, type ItemOutcome, planItems, runComparedItems } from "./compare/items.ts";
import { readFilterFrom, readTasks } from "./eval/plan.ts";
import { readItems, workOf } from "./eval/run.ts";

export const USAGE = describeTask(
  "compare",
  `deno task compare [flags]

Runs several methods at the same share of skipped queries (or dropped keys and values) on the same text, and shows their
losses against the dense model and against chance, with intervals over resampled blocks of the text: a table on stdout, and compare.json and
compare.html in --out. Flags of the method are shared by all; --methods says which ones run, in place of --fusion,
--invert and --preset (presets keep what they set, as "paper" its recent window of 0). Each method is held against the
controls that have its own side, substitute, schedule, window and warm-up. --ratios runs all of them at several shares.
With --data or --tasks they answer the items of eval too, and a row is a metric of a method: better, worse or not told
apart from dense, from its control and from the best other method. Ctrl-C keeps finished chunks and items; --resume goes on, with other
tasks of items too.`,
  [
    "",
    "--methods random,oracle,learned,paper --prune-ratio 0.3",
    "--model smollm2-135m --text FILE --seeds 10",
    "--ratios 0.3,0.5 --data DIR --tasks piqa,arc_easy --items 100 --filter-from 25%",
  ],
);

/** File of finished chunks; gone when the comparison is over. */
const WORK = "methods.jsonl";

/** File of finished items; it stays. */
const ITEM_WORK = "items.jsonl";

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
  const given = values.get("methods")?.[0] as string | undefined;
  const own = await takeFiles(values), all = [...COMPARED_METHODS, ...own === undefined ? [] : [own]];
  const names = given === undefined ? all : given.split(",").map((name) => name.trim());
  const axes = await readAxes("compare", values);
  const base = Object.fromEntries(Object.entries(axes).map(([name, list]) => [name, (list as unknown[])[0]]));
  return checkFlags(() =>
    ratios === undefined ? comparedMethods(names, base, seeds) : comparedAtRatios(names, base, seeds, ratios)
  );
}

/** Reads `--ratios`. @throws {UsageError} If one is no share, or one side has a ratio of its own. */
function readRatios(values: FlagValues): number[] | undefined {
  const text = values.get("ratios")?.[0] as string | undefined;
  if (text === undefined) return undefined;
  const own = ["prune-ratio", "kv-ratio", "skip-ratios"].find((name) => values.has(name));
  if (own !== undefined) throw new UsageError(`Cannot use --ratios with --${own}: expected one of them`);
  const ratios = text.split(",").map((part) => /^0?\.\d+$/.test(part.trim()) ? Number(part) : NaN);
  if (ratios.every((ratio) => ratio > 0)) return ratios;
  throw new UsageError(`Cannot use --ratios ${text}: expected shares between 0 and 1, as in 0.3,0.5`);
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("compare", args, false);
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const methods = await readMethods(values), options = methods.map(({ options }) => options);
  const hasItems = asksForItems(values), read = hasItems ? await readTasks(values) : [];
  const from = readFilterFrom(values, options[0], true), environment = readTaskName(values);
  if (from !== undefined && !hasItems) {
    throw new UsageError(
      "Cannot use --filter-from: expected --data or --tasks, a text is filtered from --warmup on",
    );
  }
  const table = readTable(
    values,
    hasItems ? RESULT_COLUMNS : checkFlags(() => tabulateComparison({ methods: [], environment })).columns,
  );
  const destination = readDestination(values, { noun: "a comparison", work: WORK, result: "compare.json" });
  const plan = await readPlan(values, options, progress, { folder: destination.named, file: WORK });
  const items = hasItems ? await planItems(read, from, plan.model, methods) : undefined;
  const lines = COMPARED_LINES;
  const { backend, study, runDigest } = await startStudy(plan, request, options, progress, (_, digest) => {
    if (destination.named !== undefined) RunLog.read(`${destination.named}/${WORK}`, digest, lines);
  });
  // Lines of the items' log say what data they are of themselves, so that another task may join, or one be left out.
  const itemDigest = await sha256(JSON.stringify([runDigest, from?.text])),
    work = workOf(items?.planned ?? []);
  if (items && destination.named) readItems(`${destination.named}/${ITEM_WORK}`, itemDigest, work);
  // Listens before the first line is out: who reads it may stop the task.
  using interrupt = new Interrupt();
  using memory = new MemoryWatch();
  const runs = plural(methods.length, "run");
  progress.line(`${runs} on ${countTokens(plan)} tokens of ${plan.textName}; ${backend.description}`);
  progress.start();
  let before = "";
  using claimed = claimFolder(destination);
  const { folder } = claimed, path = `${folder}/${WORK}`, itemPath = `${folder}/${ITEM_WORK}`;
  const kept = () => {
    const known = { task: "compare", args, folder } as const;
    return exists(itemPath)
      ? {
        ...known,
        work: ITEM_WORK,
        finished: readItems(itemPath, itemDigest, work).length,
        noun: "score",
      }
      : { ...known, work: WORK, finished: RunLog.read(path, runDigest, lines).length, noun: "chunk" };
  };
  try {
    using finished = RunLog.open(path, runDigest, lines);
    let itemOutcome: ItemOutcome | undefined;
    const compared = await compareStudy(study, methods, {
      log: finished,
      ...(items && {
        onItems: async (groups: readonly MethodGroup[]) => {
          itemOutcome = await runComparedItems({
            ...{ plan: items, groups, model: study.model.model, interrupt, progress, path: itemPath },
            line: {
              runDigest: itemDigest,
              model: plan.model.name,
              backend: backend.name,
              version: await readVersion(),
            },
          });
          return itemOutcome.series;
        },
      }),
      signal: interrupt.signal,
      onProgress: (fraction, name) => {
        progress.bar(fraction, name);
        if (name !== before && !progress.isTerminal) {
          progress.line([name, progress.eta(fraction)].filter((part) => part !== "").join(": "));
        }
        before = name;
      },
    });
    progress.clear();
    const comparison = {
      ...{ ...compared, environment: { ...compared.environment, peakMemoryBytes: memory.peakBytes } },
      ...(itemOutcome && { items: itemOutcome.items }),
    };
    const unsaved = await saveResults(async () => {
      const html = renderComparisonReport(comparison, { plotly: await readPlotly() });
      await writeWhole(`${folder}/compare.html`, html);
      await writeWhole(`${folder}/compare.json`, JSON.stringify(comparison, null, 2) + "\n");
      await Deno.remove(path);
    }, kept);
    await printTable(hasItems ? tabulateResults(comparison) : tabulateComparison(comparison), table, {
      spare: hasItems ? SPARE_RESULT_COLUMNS : SPARE_COLUMNS,
      json: () => JSON.stringify(comparison, null, 2),
      records: hasItems ? comparison.results! : comparison.methods,
      notes: [
        ...(comparison.methods.some(({ missed }) => missed) ? [`${MISSED_NOTE}.`] : []),
        `95% intervals in brackets. ${describePlan(plan)}.`,
        ...(unsaved === undefined ? [`Report: ${folder}/compare.html`] : []),
      ],
    });
    return unsaved?.() ?? EXIT.ok;
  } catch (error) {
    progress.clear();
    return endEarly(error, interrupt, kept);
  }
}

if (import.meta.main) await runTask(main, USAGE);
