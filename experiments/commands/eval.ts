/**
 * `deno task eval`: tasks of items (questions with choices, words to be guessed), dense and with one method.
 *
 * Writes `eval.json` to a folder, next to the study of all items. See `deno task eval --help`.
 */
import type { Backend } from "../../lib/backend.ts";
import { UsageError } from "../../lib/errors.ts";
import type { EncodedItem } from "../../lib/eval/items/encoded_item.ts";
import { filterFor } from "../../lib/eval/items/item_evaluation.ts";
import { ItemScorer } from "../../lib/eval/items/item_scorer.ts";
import { tabulateItems } from "../../lib/eval/items/item_summary.ts";
import { addCounts, wholeOf } from "../../lib/eval/skip_ratio.ts";
import { ownTasks } from "../../lib/eval/tasks/own_task.ts";
import { nonCausal, recordOptions, type ResolvedOptions } from "../../lib/methods/bind/options.ts";
import { ownRulesSha256 } from "../../lib/methods/list.ts";
import { recordCalibration } from "../../lib/methods/protocol/calibration.ts";
import type { Pruner } from "../../lib/methods/protocol/pruner.ts";
import type { Model } from "../../lib/model/model.ts";
import type { ModelFile } from "../../lib/model/open.ts";
import { retrievalScores } from "../../lib/model/retrieval.ts";
import { digestTokenizer } from "../../lib/model/tokenizer/tokenizer.ts";
import { plural } from "../../lib/plural.ts";
import { methodName } from "../../lib/plot/trials/trial_label.ts";
import { retainedOf } from "../../lib/sweep/budgets.ts";
import { findBudget, withRatio } from "../../lib/sweep/compare/match.ts";
import { bindAt } from "../../lib/sweep/compare/method_runs.ts";
import { createFilter } from "../../lib/sweep/filter_from.ts";
import { encodeStudy, measureStudy } from "../../lib/sweep/study.ts";
import { sha256 } from "../../lib/sha256.ts";
import { readVersion } from "../../lib/version.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { BUDGET, readBudget, tellRatio } from "./cli/flags/budget.ts";
import { pick } from "./cli/flags/flag.ts";
import { RUN, STUDY, TABLE, TEXT } from "./cli/flags/flags.ts";
import { ITEMS } from "./cli/flags/items.ts";
import { readMethod, tellHostRules } from "./cli/flags/method.ts";
import { METHOD } from "./cli/flags/method_flags.ts";
import { withRule } from "./cli/flags/rule.ts";
import { openBackend, readBackend } from "./cli/machine/backend.ts";
import { openModel, readModel, warnOfLength } from "./cli/machine/model.ts";
import { tellRetrieval } from "./cli/machine/retrieval.ts";
import { runCommand } from "./cli/task.ts";
import {
  chooseTasks,
  planItems,
  type PlannedTask,
  readFilterFlag,
  readTasks,
  recordTask,
} from "./items/plan.ts";
import { openItems, type RunScores, scoreItems } from "./items/run.ts";
import {
  type Budget,
  describeMean,
  EVAL_COLUMNS,
  SPARE_COLUMNS,
  tabulateEval,
  warnOfIdentical,
} from "./eval/table.ts";
import { readTexts, runText, type TextOutcome } from "./eval/texts.ts";
import type { Asked } from "./run.ts";
import { type Running, studyCommand } from "./run_study.ts";
import { hasItems } from "./task/data.ts";

async function readFlags({ values }: Asked) {
  const request = readBackend(values), method = await readMethod(values);
  if (method === undefined && values.has("filter-from")) {
    throw new UsageError("Cannot use --filter-from: a dense run filters nothing");
  }
  const budgeted = readBudget(values, method), chosen = chooseTasks(values);
  const texts = await readTexts(values, chosen.filter((task) => !hasItems(task)));
  if (budgeted !== undefined && texts.length > 0) {
    throw new UsageError(
      `Cannot use --budget with ${
        texts[0]!.task.name
      }, which reads a text: expected tasks of items (deno task compare has texts)`,
    );
  }
  const from = readFilterFlag(values, texts.length > 0);
  const tasks = await readTasks(values, chosen.filter(hasItems));
  return { request, method, budgeted, from, texts, tasks, startedAt: new Date().toISOString() };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

/** The conditions that the numbers depend on, besides the data. */
async function describeRun({ request, method, from }: Flags, file: ModelFile, backend: Backend) {
  const ruleSha256 = ownRulesSha256(), own = ownTasks();
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
    ...(ruleSha256 !== undefined && { ruleSha256 }),
    ...(own.length > 0 && { taskSha256: own.map(({ sha256 }) => sha256).join("+") }),
    ...recordCalibration(),
    ...(options && { options: from === undefined ? options : { ...options, warmup: null } }),
    ...(from && { filterFrom: from.text }),
  };
}

async function plan(flags: Flags, { values, progress }: Asked) {
  const { request, from, method: asked } = flags;
  const file = await readModel(values, progress), { config } = file;
  const items = await planItems(flags.tasks, file, from, asked === undefined ? [] : [{ options: asked }]);
  const { planned } = items, encoded = planned.flatMap(({ encoded }) => encoded);
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, asked === undefined ? [] : [asked]);
  const texts = flags.texts.map((read) => ({ ...read, model: file }));
  const contexts = encoded.flatMap(({ requests }) => requests.map(({ context }) => context));
  const model = openModel(file, backend, request, contexts[0] ?? encodeStudy(texts[0]!), progress);
  const longest = Math.max(
    ...contexts.map(({ length }) => length),
    ...texts.map((read) => measureStudy(read).context),
  );
  warnOfLength(longest, config, `contexts of ${longest} tokens`);
  const what = [
    ...(planned.length > 0 ? [`${plural(encoded.length, "item")} of ${plural(planned.length, "task")}`] : []),
    ...texts.map((read) => `${measureStudy(read).tokens} tokens of ${read.textName}`),
  ].join(", ");
  const loaded = { ...file, model }, context = { backend, retrieval: retrievalScores(loaded) };
  if (asked !== undefined) await tellRetrieval(progress, loaded, [asked]);
  const bind = (options: ResolvedOptions) => filterFor(createFilter(config, options, from, context));
  const method = asked && await fitItems(flags, asked, model, encoded, bind);
  if (method !== undefined && method !== asked) tellRatio(progress, method);
  const prunerFor = method && bind(method),
    conditions = await describeRun({ ...flags, method }, file, backend);
  return {
    ...{ ...flags, method, texts, file, items, planned, model, conditions, backend, prunerFor },
    filter: method && createFilter(config, method, undefined, context),
    line: `${what}; ${backend.description}`,
  };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** The method at the ratio that has the budget over all items together, as their runs are counted. */
async function fitItems(
  { budgeted }: Flags,
  method: ResolvedOptions,
  model: Model,
  encoded: readonly EncodedItem[],
  bind: (options: ResolvedOptions) => (contextTokens: number) => Pruner,
): Promise<ResolvedOptions> {
  if (budgeted === undefined) return method;
  const { ratio } = await findBudget(methodName(recordOptions(method)), method, budgeted, (options) => {
    const prunerFor = bindAt(() => bind(options));
    if (prunerFor === undefined) return Promise.resolve(undefined);
    using scorer = new ItemScorer(model, prunerFor);
    return Promise.resolve(retainedOf(addCounts(encoded.map((item) => scorer.score(item).usage))));
  });
  return withRatio(method, ratio);
}

/** A row of the result per item. */
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

/** The machine and conditions of the tasks' runs. */
async function describeEnvironment(
  { planned, file, conditions, method, filter, backend, startedAt }: Plan,
  scores: ReadonlyMap<string, RunScores>,
  texts: readonly TextOutcome[],
  peakMemoryBytes: number,
) {
  const data = [
    ...planned.map(({ task, data }) => [task.name, data.sha256]),
    ...texts.map(({ runs, record }) => [runs.task.name, record]),
  ];
  return {
    ...conditions,
    runDigest: await sha256(JSON.stringify([conditions, data])),
    tokenizerSha256: await digestTokenizer(file.tokenizer),
    protocol: "lm-evaluation-harness, by log-likelihood",
    nonCausal: method !== undefined && nonCausal(method),
    ...(filter && wholeOf(filterFor(filter)(0))),
    tasks: [
      ...planned.map((own) => ({
        ...recordTask(own),
        denseTimeMs: scores.get(own.task.name)!.dense!.timeMs,
        ...(method && { timeMs: scores.get(own.task.name)!.filtered!.timeMs }),
      })),
      ...texts.map(({ record, times }) => ({ ...record, ...times })),
    ],
    backendDescription: backend.description,
    peakMemoryBytes,
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    startedAt,
  };
}

async function work(plan: Plan, running: Running) {
  const { planned, model, method, prunerFor, filter } = plan,
    { store, folder, progress, interrupt } = running;
  const { scores, budgets: byTask } = await scoreItems({
    plan: plan.items,
    methods: prunerFor === undefined ? [] : [{ options: method!, runs: [{ run: "filtered", prunerFor }] }],
    model,
    log: openItems(store, plan.items),
    instead:
      `leave it out of --tasks and go on with --resume ${folder}, or filter more and take another --out`,
  }, running);
  progress.clear();
  const budgets: { [task: string]: Budget } = {};
  for (const { task, budget } of byTask) budgets[task] = budget;
  const texts: TextOutcome[] = [];
  for (const read of plan.texts) {
    const { name } = read.task, onChunk = (fraction: number) => progress.step(fraction, name);
    const outcome = await runText(read, model, filter, store, { signal: interrupt.signal, onChunk });
    texts.push(outcome);
    if (outcome.budget !== undefined) budgets[name] = outcome.budget;
  }
  progress.clear();
  const runs = planned.map(({ task, items }) => {
    const { dense, filtered } = scores.get(task.name)!;
    return {
      task: { name: task.name, metrics: task.items.metrics },
      ...{ items, dense: dense!.scores },
      ...(filtered && { filtered: filtered.scores }),
    };
  });
  const results = tabulateItems([...runs, ...texts.map(({ runs }) => runs)]);
  const environment = await describeEnvironment(plan, scores, texts, running.memory.peakBytes);
  return {
    budgets,
    record: { results, ...(method && { budgets }), environment, items: listItems(planned, scores) },
  };
}

export const command = studyCommand({
  name: "eval",
  summary: "Scores tasks of items as lm-evaluation-harness does.",
  usage: "--data DIR|hub [--tasks A,B,…] [flags]",
  about: `It takes each continuation's log-likelihood after its context, which is computed once. Without a
flag of the method the full model runs. With one both models run on the same items, and the table shows which
differences are significant, and how much was really filtered. Ctrl-C keeps finished items; --resume
continues, also with other --tasks. Tasks that read a text (perplexity, …) take it from --text.`,
  examples: [
    "--data DIR --tasks arc_easy,piqa",
    "--data hub --tasks hellaswag --items 200",
    "--tasks needle,recall --length 500 --items 20 --preset keys",
    "--data DIR --items 200 --preset keys --filter-from 25%",
    "--data DIR --model smollm2-135m --method learned --out results/eval",
  ],
  flags: {
    ...pick(ITEMS, "data", "tasks", "items", "filter-from", "task-file", "length", "data-seed"),
    ...TEXT,
    ...RUN,
    ...METHOD,
    ...BUDGET,
    ...STUDY,
    ...TABLE,
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  file: "eval.json",
  read: readFlags,
  columns: () => EVAL_COLUMNS,
  plan,
  work,
  kept: (store) => ({ finished: store.countUnits("item") + store.countUnits("chunk"), noun: "score" }),
  json: ({ record }) => JSON.stringify(record),
  table: ({ record, budgets }) => ({
    table: tabulateEval(record.results, budgets),
    spare: SPARE_COLUMNS,
    records: record.results,
    verdict: warnOfIdentical(budgets),
    notes: describeMean(record.results),
  }),
});

if (import.meta.main) await runCommand(command);
