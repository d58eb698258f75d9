/** The common part of sweep, compare and heads: methods on a text in chunks, from flags to a model on its backend. */
import { UsageError } from "../../../../lib/errors.ts";
import { cutChunks, DEFAULT_CONTEXT } from "../../../../lib/eval/chunks/chunks.ts";
import type { Task } from "../../../../lib/eval/task.ts";
import { ownTasks } from "../../../../lib/eval/tasks/own_task.ts";
import { findTask } from "../../../../lib/eval/tasks/mod.ts";
import type { Backend } from "../../../../lib/backend.ts";
import type { FilterShape } from "../../../../lib/filter/layer.ts";
import type { Model } from "../../../../lib/model/model.ts";
import type { ModelFile } from "../../../../lib/model/open.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import { plural } from "../../../../lib/plural.ts";
import {
  describeConditions,
  encodeStudy,
  encodeStudyItems,
  measureStudy,
} from "../../../../lib/sweep/study.ts";
import type { RunConditions } from "../../../../lib/sweep/trial.ts";
import type { StudyConditions, StudyFlags } from "../../../../lib/sweep/trials/store_records.ts";
import { readVersion } from "../../../../lib/version.ts";
import { type BackendRequest, buildBeside, openBackend, readBackend } from "../machine/backend.ts";
import { tellHostRules } from "../flags/method.ts";
import { takeFiles } from "../flags/rule.ts";
import { readCacheBytes } from "./memory.ts";
import { modelName, openModel, readDType, readModel, REMOTE_LAYERS, warnOfLength } from "../machine/model.ts";
import { type FlagValues, textOf } from "../flags/parse.ts";
import { tellRetrieval, tryMethod } from "../machine/retrieval.ts";
import type { Progress } from "../output/progress.ts";
import { checkFlags } from "../task.ts";
import { completeConditions, expectConditions, expectStudyIn, flagValues } from "./study_store.ts";
import { type NamedText, readCount, readNamedText } from "../flags/text.ts";
import { expectItems, readFilterFlag } from "../../items/plan.ts";
import { hasItems, readTaskText } from "../../task/data.ts";

/** Inputs that several plans of one run share, so that they are read once. */
interface GivenInputs {
  readonly file?: ModelFile;
  readonly text?: NamedText;
}

/** A model's file and the text that it is to read. */
type Plan = Awaited<ReturnType<typeof readPlan>>;

/** The name of the task that was asked for, that of `--task-file` where none is named, as an environment has it. @throws {UsageError} If it has several. */
export function readTaskName(values: FlagValues): { readonly task?: string } {
  const own = ownTasks().map(({ task }) => task.name), task = textOf(values, "task") ?? own[0];
  if (own.length > 1 && !values.has("task")) {
    throw new UsageError(
      `Cannot use --task-file with ${own.length} tasks here: expected --task, one of ${own.join(", ")}`,
    );
  }
  return task === undefined ? {} : { task };
}

/**
 * Reads the plan of a run. All input of the user is checked before anything is downloaded, built or written.
 *
 * @param named The folder of results, whose study must be of the same conditions: a model may take a download.
 * @param names Names of the methods in messages; default: their rules.
 * @param given Inputs that were read before.
 * @throws {UsageError} If a flag is out of range, the text is too short, or the model cannot have a method's schedule.
 */
export async function readPlan(
  values: FlagValues,
  methods: readonly ResolvedOptions[],
  progress: Progress,
  named?: string,
  names: readonly string[] = methods.map(({ fusion }) => fusion),
  given: GivenInputs = {},
) {
  const task = checkFlags(() => findTask(readTaskName(values).task));
  const context = readCount(values, "context", 2) ?? DEFAULT_CONTEXT, tokens = readCount(values, "tokens", 2);
  const cacheBytes = readCacheBytes(values);
  const filterFrom = hasItems(task) ? readFilterFlag(values) : undefined;
  const { textName, text, items } = await readStudyText(values, task, given.text);
  const check = (shape: FilterShape) =>
    checkFlags(() => methods.forEach((method) => tryMethod(shape, method)));
  const name = modelName(values), numLayers = REMOTE_LAYERS.get(name);
  if (numLayers !== undefined) check({ numLayers, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 });
  if (!hasItems(task)) {
    // A token takes at least one byte, so a text with too few bytes has too few tokens.
    const most = Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1);
    cutChunks(new Int32Array(most), task.isWhole ? 2 : context);
  }
  if (named !== undefined && numLayers !== undefined) {
    const { choice, cacheDType } = readBackend(values);
    expectStudyIn(named, {
      model: name,
      ...(choice === "auto" ? {} : { backend: choice }),
      ...(values.has("dtype") && { dtype: readDType(values.get("dtype")![0] as string)! }),
      ...(task.isWhole || hasItems(task) ? {} : { context }),
      text: textName,
      textSha256: await sha256(text),
      cacheDType,
      version: await readVersion(),
    });
  }
  // A model that may have to be downloaded leaves the cores free for the kernels meanwhile.
  const building = numLayers === undefined || given.file
    ? undefined
    : buildBeside(readBackend(values), progress);
  const model = given.file ?? await readModel(values, progress, values.has("jobs")).finally(() => building);
  check(model.config);
  const plan = {
    ...{ model, task, text, textName, context },
    ...(tokens !== undefined && { tokens }),
    ...(cacheBytes !== undefined && { cacheBytes }),
    ...(items !== undefined && { items }),
    ...(filterFrom !== undefined && { filterFrom }),
  };
  const measured = { ...plan, context: checkFlags(() => measureStudy(plan)).context };
  if (hasItems(task)) {
    const named = methods.map((options, i) => ({ name: names[i]!, options }));
    expectItems([{ task, encoded: encodeStudyItems(plan)! }], model.config, filterFrom, named);
  } else warnOfLength(measured.context, model.config);
  return measured;
}

/** The text of a study, or its items as a text, and how many of them are used at most. */
async function readStudyText(
  values: FlagValues,
  task: Task,
  given?: NamedText,
): Promise<{ readonly textName: string; readonly text: string; readonly items?: number }> {
  if (!hasItems(task)) {
    const wrong = ["items", "length", "data-seed", "filter-from"].find((name) => values.has(name));
    if (wrong !== undefined && !values.has("tasks") && !values.has("data")) {
      throw new UsageError(`Cannot use --${wrong} with task ${task.name}: it reads a text, and has no items`);
    }
    const { name, text } = given ?? await readNamedText(textOf(values, "text"));
    return { textName: name, text };
  }
  const wrong = ["context", "tokens"].find((name) => values.has(name));
  if (wrong !== undefined) throw new UsageError(`Cannot use --${wrong} with task ${task.name}: it has items`);
  const { textName, text, count } = await readTaskText(values, task, textOf(values, "text"));
  return { textName, text, ...(count !== undefined && { items: count }) };
}

/** The plan in words: `tiny on prose.txt: 2 chunks of 512 tokens`. */
export function describePlan(plan: Plan): string {
  const { model, textName, task } = plan, { units, context } = measureStudy(plan);
  const what = hasItems(task)
    ? `${plural(units, "item")} of up to ${context} tokens`
    : `${plural(units, "chunk")} of ${context} tokens`;
  return `${model.name} on ${textName}: ${what}`;
}

/**
 * Puts the model on its backend.
 *
 * @param expect Looks at the conditions, before anything is built where they are known by then.
 * @param own Further conditions of the command itself.
 * @param opened The model on its backend, where another plan has put it there.
 */
export async function startStudy(
  plan: Plan,
  request: BackendRequest,
  methods: readonly ResolvedOptions[],
  progress: Progress,
  expect: (conditions: StudyConditions) => void = () => {},
  own: Pick<StudyConditions, "options"> = {},
  opened?: { readonly backend: Backend; readonly model: Model },
) {
  const products = request.products === "exact" ? undefined : request.products;
  const conditionsOn = async (backend: string) => ({
    ...await describeConditions(plan, backend, request.cacheDType, products),
    ...own,
  });
  if (request.choice !== "auto") expect(await conditionsOn(request.choice));
  const backend = opened?.backend ?? await openBackend(request, progress);
  if (opened === undefined) tellHostRules(progress, backend, methods);
  const model = opened?.model ?? openModel(plan.model, backend, request, encodeStudy(plan), progress);
  await tellRetrieval(progress, { ...plan.model, model }, methods);
  const conditions = await conditionsOn(backend.name);
  expect(conditions);
  const what = `${measureStudy(plan).tokens} tokens of ${plan.textName}; ${backend.description}`;
  return { backend, study: { ...plan, model: { ...plan.model, model } }, conditions, what };
}

/**
 * Opens the model and text of a study that another process has begun.
 *
 * @param name The study, in messages.
 * @throws {UsageError} If they are not those that its trials ran on.
 */
export async function openStudyOf(
  name: string,
  conditions: RunConditions,
  flags: StudyFlags,
  progress: Progress,
) {
  const values = flagValues(flags), known = completeConditions(conditions), { model, text } = conditions;
  // A file of code is compared before it is loaded, which runs it.
  await takeFiles(values, (digests) => expectConditions(name, known, { ...digests }));
  const plan = { ...await readPlan(values, [], progress), textName: text };
  const expect = (found: StudyConditions) =>
    expectConditions(name, known, completeConditions({ ...found, model }));
  const { study } = await startStudy(plan, readBackend(values), [], progress, expect);
  study.model.tokenizer.rest();
  return study;
}
