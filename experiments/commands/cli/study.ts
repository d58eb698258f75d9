/** What sweep, compare and heads share: methods on a text in chunks, from flags to a model on its backend. */
import { UsageError } from "../../../lib/errors.ts";
import { cutChunks, findTask, TASKS } from "../../../lib/eval/mod.ts";
import type { FilterShape } from "../../../lib/filter/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { createPruner, type ResolvedOptions } from "../../../lib/methods/mod.ts";
import { plural } from "../../../lib/plot/mod.ts";
import {
  DEFAULT_CONTEXT,
  describeConditions,
  digestConditions,
  encodeStudy,
  readVersion,
  type RunConditions,
  StudyStore,
} from "../../../lib/sweep/mod.ts";
import { type BackendRequest, buildBeside, openBackend, readBackend } from "./backend.ts";
import { exists, isFolder } from "./files.ts";
import { tellHostRules } from "./method.ts";
import { readCacheBytes } from "./memory.ts";
import { knownLayers, modelName, openModel, readDType, readModel, warnOfLength } from "./model.ts";
import type { FlagValues } from "./parse.ts";
import type { Progress } from "./progress.ts";
import { checkFlags } from "./task.ts";
import { readCount, readNamedText } from "./text.ts";

/** The file of a study in its folder. */
export const STUDY_FILE = "study.db";

/** A model's file and the text that it is to read. */
export type Plan = Awaited<ReturnType<typeof readPlan>>;

/** The name of the task that was asked for, as an environment has it. */
export function readTaskName(values: FlagValues): { readonly task?: string } {
  const task = values.get("task")?.[0] as string | undefined;
  return task === undefined ? {} : { task };
}

/**
 * Refuses to go on with runs of other conditions as far as these are known before a model is obtained, which may take
 * a download.
 *
 * @throws {UsageError} If the first line of a log ran under others.
 */
function expectSame(path: string, known: Partial<RunConditions>): void {
  if (!exists(path) || isFolder(path)) return;
  let record: Partial<RunConditions>;
  if (path.endsWith(STUDY_FILE)) {
    using store = StudyStore.open(path);
    record = store.conditions;
  } else {
    try {
      record = JSON.parse(Deno.readTextFileSync(path).split("\n", 1)[0]!);
    } catch {
      return; // what is wrong with it, the log's own reader says
    }
  }
  expectConditions(path, record, known);
}

/** What stands for what conditions leave out. */
const BY_DEFAULT = {
  task: TASKS[0].name,
  ruleSha256: "none",
  calibrationSha256: "none",
  calibration: "none",
  dtype: "stored",
  products: "exact",
};

/** Conditions with nothing left out: what one of two alone names differs too. */
export function completeConditions(conditions: RunConditions): Partial<RunConditions> {
  return { ...BY_DEFAULT, ...conditions } as Partial<RunConditions>;
}

/** Compares conditions of runs that are there with those of now, as far as both have them. @throws {UsageError} If they differ. */
export function expectConditions(
  path: string,
  record: Partial<RunConditions>,
  known: Partial<RunConditions>,
): void {
  for (const [name, value] of Object.entries(known)) {
    const ran = record?.[name as keyof RunConditions];
    if (ran === undefined || ran === value) continue;
    throw new UsageError(
      `Cannot go on with "${path}": its runs ran with ${name} ${ran}, expected the same, found ${value} ` +
        "(repeat those flags, or take another --out)",
    );
  }
}

/**
 * Reads what is to be run. Everything that a user gave is checked before anything is obtained, built or written.
 *
 * @throws {UsageError} If a flag is out of range, the text is too short, or the model cannot have a method's schedule.
 */
export async function readPlan(
  values: FlagValues,
  methods: readonly ResolvedOptions[],
  progress: Progress,
  log?: { readonly folder: string | undefined; readonly file: string },
) {
  const task = checkFlags(() => findTask(readTaskName(values).task));
  const context = readCount(values, "context", 2) ?? DEFAULT_CONTEXT, tokens = readCount(values, "tokens", 2);
  const cacheBytes = readCacheBytes(values);
  const { name: textName, text } = await readNamedText(values);
  const check = (shape: FilterShape) =>
    checkFlags(() => methods.forEach((method) => createPruner("token-filtering", shape, method)));
  const name = modelName(values), numLayers = knownLayers(name);
  if (numLayers !== undefined) check({ numLayers, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 });
  // A token takes at least one byte: what is too short in bytes is too short in tokens.
  const most = Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1);
  cutChunks(new Int32Array(most), task.isWhole ? 2 : context);
  if (log?.folder !== undefined && numLayers !== undefined) {
    const { choice, cacheDType } = readBackend(values);
    expectSame(`${log.folder}/${log.file}`, {
      model: name,
      ...(choice === "auto" ? {} : { backend: choice }),
      ...(values.has("dtype") && { dtype: readDType(values.get("dtype")![0] as string)! }),
      ...{
        ...(task.isWhole ? {} : { context }),
        text: textName,
        textSha256: await sha256(text),
        cacheDType,
        version: await readVersion(),
      },
    });
  }
  // A model that may have to be downloaded leaves the cores free for the kernels meanwhile.
  const building = numLayers === undefined ? undefined : buildBeside(readBackend(values), progress);
  const model = await readModel(values, progress, values.has("jobs")).finally(() => building);
  check(model.config);
  const plan = {
    ...{ model, task, text, textName, context },
    ...(tokens !== undefined && { tokens }),
    ...(cacheBytes !== undefined && { cacheBytes }),
  };
  const whole = task.isWhole ? { ...plan, context: encodeStudy(plan).length } : plan;
  warnOfLength(whole.context, model.config);
  return whole;
}

/** Tokens in all chunks of a plan. */
export function countTokens(plan: Plan): number {
  return Math.floor(encodeStudy(plan).length / plan.context) * plan.context;
}

/** The plan in words: `tiny on prose.txt: 2 chunks of 512 tokens`. */
export function describePlan(plan: Plan): string {
  const { model, textName, context } = plan;
  return `${model.name} on ${textName}: ${plural(countTokens(plan) / context, "chunk")} of ${context} tokens`;
}

/**
 * Puts the model on its backend.
 *
 * @param expect looks at finished runs, which must be of the same conditions: before anything is built where that can be
 */
export async function startStudy(
  plan: Plan,
  request: BackendRequest,
  methods: readonly ResolvedOptions[],
  progress: Progress,
  expect?: (conditions: RunConditions, runDigest: string) => void,
) {
  const products = request.products === "exact" ? undefined : request.products;
  const conditionsOn = async (backend: string) =>
    await describeConditions(plan, backend, request.cacheDType, products);
  if (expect !== undefined && request.choice !== "auto") {
    const conditions = await conditionsOn(request.choice);
    expect(conditions, await digestConditions(conditions));
  }
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, methods);
  const model = openModel(plan.model, backend, request, encodeStudy(plan), progress);
  const conditions = await conditionsOn(backend.name);
  const runDigest = await digestConditions(conditions);
  return { backend, study: { ...plan, model: { ...plan.model, model } }, conditions, runDigest };
}
