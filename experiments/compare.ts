/**
 * `deno task compare`: several methods at the same ratio on the same text, with intervals of their differences.
 *
 * Writes `compare.json` and `compare.html` to a folder, and keeps finished runs there until then. See
 * `deno task compare --help`.
 */
import { UsageError } from "../lib/errors.ts";
import {
  MISSED_NOTE,
  plural,
  readPlotly,
  renderComparisonReport,
  tabulateComparison,
} from "../lib/plot/mod.ts";
import {
  COMPARED_LINES,
  COMPARED_METHODS,
  comparedMethods,
  compareStudy,
  type NamedMethod,
  RunLog,
} from "../lib/sweep/mod.ts";
import { readBackend } from "./cli/backend.ts";
import { writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { readAxes } from "./cli/method.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { takeRule } from "./cli/rule.ts";
import { claimFolder, endEarly, readDestination, saveResults } from "./cli/resume.ts";
import { countTokens, describePlan, readPlan, readTaskName, startStudy } from "./cli/study.ts";
import { printTable, readTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask } from "./cli/task.ts";
import { readCount } from "./cli/text.ts";

const USAGE = describeTask(
  "compare",
  `deno task compare [flags]

Runs several methods at the same share of skipped queries (or dropped keys and values) on the same text, and shows their
losses against the dense model and against chance, with intervals over resampled blocks of the text: a table on stdout, and compare.json and
compare.html in --out. Flags of the method are shared by all; --methods says which ones run, in place of --fusion,
--invert and --preset (presets keep what they set, as "paper" its recent window of 0). Each method is held against the
controls that have its own side, substitute, schedule, window and warm-up. Ctrl-C keeps finished runs; --resume goes on.`,
  [
    "",
    "--methods random,oracle,learned,paper --prune-ratio 0.3",
    "--model smollm2-135m --text FILE --seeds 10",
  ],
);

/** File of finished runs; gone when the comparison is over. */
const WORK = "methods.jsonl";

/** Columns that a narrow terminal does without, the first one first. */
export const SPARE_COLUMNS = [
  "to protected",
  "gap closed",
  "loss",
  "ppl",
  "pairs",
  "KV dropped",
  "Q skipped",
  "KV held",
  "attn FLOPs",
  "to random",
];

/** Flags whose place --methods takes. */
const REPLACED = ["fusion", "invert", "preset"];

async function readMethods(values: FlagValues): Promise<NamedMethod[]> {
  const wrong = REPLACED.find((name) => values.has(name));
  if (wrong !== undefined) {
    throw new UsageError(
      `Cannot use --${wrong} in a comparison: expected --methods, as in --methods random,learned`,
    );
  }
  const seeds = readCount(values, "seeds", 1) ?? 5;
  const given = values.get("methods")?.[0] as string | undefined;
  const own = await takeRule(values), all = [...COMPARED_METHODS, ...own === undefined ? [] : [own]];
  const names = given === undefined ? all : given.split(",").map((name) => name.trim());
  const axes = await readAxes("compare", values);
  const base = Object.fromEntries(Object.entries(axes).map(([name, list]) => [name, (list as unknown[])[0]]));
  return checkFlags(() => comparedMethods(names, base, seeds));
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("compare", args, false);
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const methods = await readMethods(values), options = methods.map(({ options }) => options);
  const table = readTable(
    values,
    checkFlags(() => tabulateComparison({ methods: [], environment: readTaskName(values) })).columns,
  );
  const destination = readDestination(values, { noun: "a comparison", work: WORK, result: "compare.json" });
  const plan = await readPlan(values, options, progress, { folder: destination.named, file: WORK });
  const lines = COMPARED_LINES;
  const { backend, study, runDigest } = await startStudy(plan, request, options, progress, (_, digest) => {
    if (destination.named !== undefined) RunLog.read(`${destination.named}/${WORK}`, digest, lines);
  });
  // Listens before the first line is out: who reads it may stop the task.
  using interrupt = new Interrupt();
  const runs = plural(methods.length, "run");
  progress.line(`${runs} on ${countTokens(plan)} tokens of ${plan.textName}; ${backend.description}`);
  progress.start();
  let before = "";
  using claimed = claimFolder(destination);
  const { folder } = claimed, path = `${folder}/${WORK}`;
  const kept = () => {
    const finished = RunLog.read(path, runDigest, lines).length;
    return { task: "compare", args, folder, work: WORK, finished, noun: "run" } as const;
  };
  try {
    using finished = RunLog.open(path, runDigest, lines);
    const comparison = await compareStudy(study, methods, {
      log: finished,
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
    const unsaved = await saveResults(async () => {
      const html = renderComparisonReport(comparison, { plotly: await readPlotly() });
      await writeWhole(`${folder}/compare.html`, html);
      await writeWhole(`${folder}/compare.json`, JSON.stringify(comparison, null, 2) + "\n");
      await Deno.remove(path);
    }, kept);
    await printTable(tabulateComparison(comparison), table, {
      spare: SPARE_COLUMNS,
      json: () => JSON.stringify(comparison, null, 2),
      records: comparison.methods,
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
