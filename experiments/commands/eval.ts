/**
 * `deno task eval`: tasks of items (questions with choices, words to be guessed), dense and with one method.
 *
 * Writes `eval.json` to a folder, and keeps finished items there until then. See `deno task eval --help`.
 */
import type { Backend } from "../../lib/backend.ts";
import { budgetOf, type ItemBudget, ItemScorer, reachesNothing, tabulateItems } from "../../lib/eval/mod.ts";
import {
  createPruner,
  looksAhead,
  ownRule,
  recordCalibration,
  recordOptions,
} from "../../lib/methods/mod.ts";
import { digestTokenizer } from "../../lib/model/mod.ts";
import { plural } from "../../lib/plot/mod.ts";
import { readVersion } from "../../lib/sweep/mod.ts";
import { sha256 } from "../../lib/sha256.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { readMethod, tellHostRules } from "./cli/method.ts";
import { MemoryWatch } from "./cli/memory.ts";
import { openModel, readModel, warnOfLength } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { claimFolder, endEarly, readDestination, saveResults } from "./cli/resume.ts";
import { withRule } from "./cli/rule.ts";
import { printTable, readTable } from "./cli/table.ts";
import { EXIT, runTask } from "./cli/task.ts";
import {
  asksToFilter,
  bindMethod,
  expectReach,
  type PlannedTask,
  planTasks,
  readFilterFrom,
  readTasks,
  recordTask,
  refuseUnreached,
  type Unreached,
} from "./eval/plan.ts";
import { openItems, readItems, runItems, type RunScores, workOf } from "./eval/run.ts";
import { EVAL_COLUMNS, SPARE_COLUMNS, tabulateEval } from "./eval/table.ts";

export const USAGE = describeTask(
  "eval",
  `deno task eval --data DIR|hub [--tasks A,B,…] [flags]

Scores tasks of items as lm-evaluation-harness does: each continuation's log-likelihood after its context, which is
computed once. Without a flag of the method the model runs dense; with one it runs both ways, on the same items, and the
table says better, worse or not told apart, and what was really filtered. Ctrl-C keeps finished items; --resume goes
on, with other tasks too if --tasks says so.`,
  [
    "--data DIR --tasks arc_easy,piqa",
    "--data hub --tasks hellaswag --items 200",
    "--tasks needle,recall --length 500 --items 20 --preset keys",
    "--data DIR --items 200 --preset keys --filter-from 25%",
    "--data DIR --model smollm2-135m --fusion learned --out results/eval",
  ],
);

/** File of finished items; gone when the evaluation is over, unless some are of tasks that were left out. */
const WORK = "items.jsonl";

/** What is to be run: all that a user gave, checked before anything is built or written. */
async function readRequest(values: FlagValues, progress: Progress) {
  const request = readBackend(values);
  const method = await readMethod("eval", values), from = readFilterFrom(values, method);
  const table = readTable(values, EVAL_COLUMNS), read = await readTasks(values);
  const destination = readDestination(values, { noun: "an evaluation", work: WORK, result: "eval.json" });
  const file = await readModel(values, progress);
  const planned = await planTasks(read, file), encoded = planned.flatMap(({ encoded }) => encoded);
  const bind = (options: object = {}) =>
    method &&
    bindMethod(method, from, encoded, (own) => createPruner("token-filtering", file.config, own, options));
  const check = bind();
  if (check !== undefined && asksToFilter(method!)) {
    for (const own of planned) expectReach(own, check, file.config);
  }
  return { request, method, from, table, destination, file, planned, encoded, bind };
}

type Request = Awaited<ReturnType<typeof readRequest>>;

/** What the numbers depend on beside the data. */
async function describeRun({ request, method, from, file }: Request, backend: Backend) {
  const rule = ownRule();
  const options = method && recordOptions(from === undefined ? method : { ...method, warmup: 0 });
  return {
    version: await readVersion(),
    model: file.name,
    modelSha256: file.sha256,
    backend: backend.name,
    cacheDType: request.cacheDType,
    ...(backend.products && { products: backend.products }),
    ...(file.dtype && { dtype: file.dtype }),
    bos: file.tokenizer.addsBos,
    ...(rule !== undefined && { ruleSha256: rule.sha256 }),
    ...recordCalibration(),
    ...(options && { options: from === undefined ? options : { ...options, warmup: null } }),
    ...(from && { filterFrom: from.text }),
  };
}

/** A row of the result an item. */
function listItems(planned: readonly PlannedTask[], scores: ReadonlyMap<string, RunScores>) {
  return planned.flatMap(({ task, items }) =>
    items.map(({ id, gold, group }, i) => {
      const { dense, filtered } = scores.get(task.name)!;
      return {
        ...{ task: task.name, id, gold, ...(group !== undefined && { group }) },
        dense: dense!.scores[i]!,
        filtered: filtered?.scores[i],
      };
    })
  );
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = await withRule(parseFlags("eval", args, false));
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const startedAt = new Date().toISOString();
  const asked = await readRequest(values, progress);
  const { request, method, table, destination, file, planned, encoded, bind } = asked, { config } = file;
  const backend = await openBackend(request, progress), conditions = await describeRun(asked, backend);
  // Lines of the log say what data they are of themselves, so that another task may join, or one be left out.
  const lineDigest = await sha256(JSON.stringify(conditions)), work = workOf(planned);
  const runDigest = await sha256(
    JSON.stringify([conditions, work.map(({ task, dataSha256 }) => [task, dataSha256])]),
  );
  tellHostRules(progress, backend, method === undefined ? [] : [method]);
  const model = openModel(file, backend, request, encoded[0]!.requests[0]!.context, progress);
  const contexts = encoded.flatMap(({ requests }) => requests.map(({ context }) => context.length));
  const longest = Math.max(...contexts);
  warnOfLength(longest, config, `contexts of ${longest} tokens`);
  using interrupt = new Interrupt();
  using memory = new MemoryWatch();
  using dense = new ItemScorer(model);
  const prunerFor = bind({ backend });
  using filtered = prunerFor && new ItemScorer(model, prunerFor);
  progress.line(
    `${plural(encoded.length, "item")} of ${plural(planned.length, "task")}; ${backend.description}`,
  );
  progress.start();
  using claimed = claimFolder(destination);
  const { folder } = claimed, path = `${folder}/${WORK}`;
  const kept = () => {
    const finished = readItems(path, lineDigest, work).length;
    return { task: "eval", args, folder, work: WORK, finished, noun: "score" } as const;
  };
  try {
    using log = openItems(path, lineDigest, work);
    const budgets: { [task: string]: ItemBudget } = {}, unreached: Unreached[] = [];
    const scores = await runItems({
      work,
      scorers: { dense, ...(filtered && { filtered }) },
      log,
      line: {
        runDigest: lineDigest,
        model: file.name,
        backend: backend.name,
        version: conditions.version,
        method: method?.fusion ?? "dense",
      },
      signal: interrupt.signal,
      onItem: (fraction, task, done, of) => progress.step(fraction, `${task} ${done}/${of}`),
      onTask: (task, { filtered: own }) => {
        if (own === undefined) return;
        const budget = budgets[task] = budgetOf(own.scores, config.numLayers);
        if (!asksToFilter(method!) || !reachesNothing(budget)) return;
        unreached.push({
          planned: planned.find((other) => other.task.name === task)!,
          prunerFor: prunerFor!,
        });
      },
    });
    progress.clear();
    refuseUnreached(
      unreached,
      { path, scores: 2 * encoded.length },
      `leave it out of --tasks and go on with --resume ${folder}, or filter more and take another --out`,
    );
    const results = tabulateItems(planned.map(({ task, items }) => {
      const { dense, filtered } = scores.get(task.name)!;
      return { task, items, dense: dense!.scores, ...(filtered && { filtered: filtered.scores }) };
    }));
    const result = {
      results,
      ...(method && { budgets }),
      environment: {
        ...conditions,
        runDigest,
        tokenizerSha256: await digestTokenizer(file.tokenizer),
        protocol: "lm-evaluation-harness, by log-likelihood",
        looksAhead: method !== undefined && looksAhead(method),
        tasks: planned.map((own) => ({
          ...recordTask(own),
          denseTimeMs: scores.get(own.task.name)!.dense!.timeMs,
          ...(method && { timeMs: scores.get(own.task.name)!.filtered!.timeMs }),
        })),
        backendDescription: backend.description,
        peakMemoryBytes: memory.peakBytes,
        deno: Deno.version.deno,
        platform: `${Deno.build.os} ${Deno.build.arch}`,
        startedAt,
      },
      items: listItems(planned, scores),
    };
    const unsaved = await saveResults(async () => {
      await writeWhole(`${folder}/eval.json`, JSON.stringify(result) + "\n");
      // What was scored of tasks that are left out now stays.
      if (log.finished.every((line) => work.some(({ task }) => task === line.task))) await Deno.remove(path);
    }, kept);
    await printTable(tabulateEval(results, budgets), table, {
      spare: SPARE_COLUMNS,
      json: () => JSON.stringify(result),
      records: results,
      notes: unsaved === undefined ? [`Results: ${folder}/eval.json`] : [],
    });
    return unsaved?.() ?? EXIT.ok;
  } catch (error) {
    progress.clear();
    return endEarly(error, interrupt, kept);
  }
}

if (import.meta.main) await runTask(main, USAGE);
