/** A model on a text, in a few lines: the conditions of a run, and a sweep without a folder of results. */
import type { Backend } from "../backend.ts";
import type { CacheDType } from "../dtype.ts";
import type { Environment, RunConditions } from "../environment.ts";
import { DEFAULT_CONTEXT } from "../eval/chunks/chunks.ts";
import type { EncodedItem } from "../eval/items/encoded_item.ts";
import { encodeItems, readItems } from "../eval/items/item_source.ts";
import { countTokens } from "../eval/items/item_evaluation.ts";
import { type Evaluation, type Filter, labelOf, type Task, type TaskTypes } from "../eval/task.ts";
import { ownTasks } from "../eval/tasks/own_task.ts";
import { findTask, type PerplexityTypes, TASKS } from "../eval/tasks/mod.ts";
import type { LoadedModel } from "../model/open.ts";
import { retrievalScores } from "../model/retrieval.ts";
import { digestTokenizer, type Tokenizer } from "../model/tokenizer/tokenizer.ts";
import type { NamedMethod } from "./compare/compared_methods.ts";
import { compareMethods, type Comparison, type ComparisonArguments } from "./compare/comparison.ts";
import { sha256 } from "../sha256.ts";
import { describeRuntime, readVersion } from "../version.ts";
import { digestConditions } from "./trials/digest.ts";
import { createFilter, type FilterFrom } from "./filter_from.ts";
import { runSweep, runTrial, type SweepControl } from "./trials/runner.ts";
import { expandGrids, type Grid } from "./space.ts";
import { summarizeSweep } from "./summary.ts";
import type { SweepSummary, Trial } from "./trial.ts";
import type { Search } from "./trials/search.ts";
import { listedTrials, type TrialSource } from "./trials/trial_source.ts";
import { findWinners, runControls } from "./trials/winners.ts";
import type { ResolvedOptions } from "../methods/bind/options.ts";
import { ownRulesSha256 } from "../methods/list.ts";
import { recordCalibration } from "../methods/protocol/calibration.ts";

/** A model and the text that it is to read. */
export interface Study<T extends TaskTypes = PerplexityTypes> {
  /** The evaluation task, one of `TASKS`; default perplexity. */
  readonly task?: Task<T>;
  /** The model, on its backend. */
  readonly model: LoadedModel;
  /** The text. */
  readonly text: string;
  /** Its name; default `text`. */
  readonly textName?: string;
  /** Tokens per chunk; default {@linkcode DEFAULT_CONTEXT}. */
  readonly context?: number;
  /** Use only the first tokens; default: all. */
  readonly tokens?: number;
  /** Use only this number of items of a task. Its text is a JSONL file, or JSON settings to make items from. */
  readonly items?: number;
  /** Where methods begin to filter, instead of their warm-up. */
  readonly filterFrom?: FilterFrom;
  /** Bytes of the full model's states and logits that may be kept from trial to trial; default: 1 GiB. */
  readonly cacheBytes?: number;
}

/** @internal A study whose model is read, but not yet on a backend. */
export interface StudyPlan extends Omit<Study<TaskTypes>, "model"> {
  readonly model: Pick<LoadedModel, "name" | "sha256" | "tokenizer" | "dtype" | "config">;
}

/** The items of a study's task in tokens; undefined of a task that reads a text. @throws {RangeError} If one is broken. */
export function encodeStudyItems(
  { model, task, text, textName = "text", items: count }: StudyPlan,
): readonly EncodedItem[] | undefined {
  if (task?.items === undefined) return undefined;
  const data = { name: textName, text, ...(count !== undefined && { count }) };
  const key = JSON.stringify([task.name, data]), known = lastItems.get(model.tokenizer);
  if (known?.key === key) return known.items;
  const items = encodeItems(readItems(task.name, task.items, data, model).items, model);
  lastItems.set(model.tokenizer, { key, items });
  return items;
}

const lastItems = new WeakMap<Tokenizer, { readonly key: string; readonly items: readonly EncodedItem[] }>();

/** Units of work of a study (chunks of its text, or items), tokens of all, and of the longest. */
export function measureStudy(study: StudyPlan): {
  readonly units: number;
  readonly tokens: number;
  readonly context: number;
} {
  const items = encodeStudyItems(study);
  if (items !== undefined) {
    const lengths = items.map(countTokens), tokens = lengths.reduce((sum, length) => sum + length, 0);
    return { units: items.length, tokens, context: Math.max(...lengths) };
  }
  const context = contextOf(study), units = Math.floor(encodeStudy(study).length / context);
  return { units, tokens: units * context, context };
}

/** Tokens of a chunk: all of a text that is one. */
const contextOf = (study: StudyPlan) =>
  study.task?.isWhole ? encodeStudy(study).length : study.context ?? DEFAULT_CONTEXT;

/**
 * Token ids of a study: of a text with BOS at the front where the tokenizer adds one, cut at `tokens`; of items those of
 * all contexts and continuations.
 *
 * @returns Token ids, [tokens] i32.
 */
export function encodeStudy(study: StudyPlan): Int32Array<ArrayBuffer> {
  const { model: { tokenizer }, text, tokens } = study, items = encodeStudyItems(study);
  if (items !== undefined) {
    const parts = items.flatMap(({ requests }) => requests.flatMap((own) => [own.context, own.continuation]));
    return Int32Array.from(parts.flatMap((ids) => [...ids]));
  }
  const known = lastEncoded.get(tokenizer);
  const ids = known?.text === text ? known.ids : tokenizer.encode(text, { bos: tokenizer.addsBos });
  lastEncoded.set(tokenizer, { text, ids });
  return ids.slice(0, tokens);
}

/** The last text that a tokenizer encoded: a long one takes seconds, and a study needs its ids more than once. */
const lastEncoded = new WeakMap<
  Tokenizer,
  { readonly text: string; readonly ids: Int32Array<ArrayBuffer> }
>();

/**
 * The conditions that a study's numbers depend on. The package's version is read when this is called.
 *
 * @param backend Name of the backend that it runs on.
 * @param cacheDType Element type of the KV cache.
 * @param products The backend's.
 */
export async function describeConditions(
  study: StudyPlan,
  backend: string,
  cacheDType: CacheDType = "f32",
  products?: Backend["products"],
): Promise<RunConditions> {
  const { model, text, textName = "text", task, filterFrom } = study, ruleSha256 = ownRulesSha256();
  const own = ownTasks().find((own) => own.task === task), { units, tokens, context } = measureStudy(study);
  return {
    ...(task !== undefined && task.name !== TASKS[0].name && { task: task.name }),
    ...(own !== undefined && { taskSha256: own.sha256 }),
    ...(task?.items && { items: units }),
    ...(filterFrom && { filterFrom: filterFrom.text }),
    ...(ruleSha256 !== undefined && { ruleSha256 }),
    ...recordCalibration(),
    version: await readVersion(),
    model: model.name,
    modelSha256: model.sha256,
    text: textName,
    textSha256: await sha256(text),
    context,
    textTokens: tokens,
    bos: model.tokenizer.addsBos,
    backend,
    cacheDType,
    ...(products && { products }),
    ...(model.dtype && { dtype: model.dtype }),
  };
}

function conditionsOf(study: Study<TaskTypes>): Promise<RunConditions> {
  const { backend, cacheDType } = study.model.model;
  return describeConditions(study, backend.name, cacheDType, backend.products);
}

/** The conditions that a study's numbers depend on, and the place of the measurement. */
export async function describeStudy(study: Study<TaskTypes>): Promise<Environment> {
  const conditions = await conditionsOf(study), { backend } = study.model.model;
  return {
    ...conditions,
    runDigest: await digestConditions(conditions),
    tokensSha256: await sha256(new Uint8Array(encodeStudy(study).slice(0, conditions.textTokens).buffer)),
    tokenizerSha256: await digestTokenizer(study.model.tokenizer),
    protocol: findTask(conditions.task).protocol,
    label: labelOf(findTask(conditions.task), conditions.context),
    backendDescription: backend.description,
    ...describeRuntime(),
    startedAt: new Date().toISOString(),
  };
}

/** Opens a study's task on its model and text; no result is given out of a model whose files have changed meanwhile. */
export function openStudy<T extends TaskTypes = PerplexityTypes>(study: Study<T>): Evaluation<T> {
  const { model, task = TASKS[0], cacheBytes } = study;
  const items = encodeStudyItems(study);
  const data = {
    ids: encodeStudy(study),
    text: study.text,
    context: contextOf(study),
    tokenizer: model.tokenizer,
    ...(items && { items }),
    ...(cacheBytes !== undefined && { cacheBytes }),
  };
  const evaluation = task.open(model.model, data) as Evaluation<T>, { expectUnchanged } = model;
  if (expectUnchanged === undefined) return evaluation;
  const checked = async <R>(running: Promise<R>): Promise<R> => {
    const result = await running;
    expectUnchanged();
    return result;
  };
  return {
    dense: (control) => checked(evaluation.dense(control)),
    run: (filter, control) => checked(evaluation.run(filter, control)),
  };
}

/**
 * Runs every trial of a grid and summarises them, as `deno task sweep` does.
 *
 * @param grids Axes as in {@linkcode expandGrids}; the trials of several grids run one after the other.
 * @throws {TypeError | RangeError} If an option is not known or out of range, or the text is shorter than a chunk.
 * @throws The signal's reason, if it is aborted.
 *
 * @example
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { sweepStudy } from "@tokenfilter/tokenfilter/sweep";
 * const model = await loadModel("tiny", new ReferenceBackend());
 * const study = { model, text: await readBuiltinText(), context: 32, tokens: 32 };
 * const { trials, dense } = await sweepStudy(study, [{ fusion: ["key", "value"], tail: 0.1, pruneRatio: 0.05, warmup: 8 }]);
 * console.assert(trials.length === 2 && dense.tokens === 32);
 * ```
 */
export async function sweepStudy<T extends TaskTypes = PerplexityTypes>(
  study: Study<T>,
  grids: readonly Grid[],
  control: SweepControl = {},
): Promise<SweepSummary<T>> {
  const methods = expandGrids(grids);
  methods.forEach(binderOf(study)); // refuses invalid methods before any runs
  return await sweepTrials(study, await listedTrials<T>(methods, await conditionsOf(study)), control);
}

/** Binds methods to a study's model. @throws {RangeError} If the model cannot have one. */
export const binderOf = ({ model, filterFrom }: Study<TaskTypes>) => (method: ResolvedOptions): Filter =>
  createFilter(model.config, method, filterFrom, {
    backend: model.model.backend,
    retrieval: retrievalScores(model),
  });

/**
 * Runs the trials of a source, whose methods were checked before, and summarises them.
 *
 * @param control Includes the search that the trials come from, if any: the summary then has its outcome.
 * @throws The signal's reason, if it is aborted.
 */
export async function sweepTrials<T extends TaskTypes>(
  study: Study<T>,
  source: TrialSource<T>,
  { search, ...control }: SweepControl & { readonly search?: Search<Trial<T>> },
): Promise<SweepSummary<T>> {
  const environment = await describeStudy(study), evaluation = openStudy(study);
  const args = { evaluation, createPruner: binderOf(study), conditions: await conditionsOf(study) };
  const trials = await runSweep({ ...args, ...control, source });
  const { race, signal } = control, stopped = source.stopped();
  const winners = search && !source.ranOut() &&
    await runControls(
      findWinners(trials, search.request),
      trials,
      (taken) =>
        runTrial({ ...args, runDigest: environment.runDigest, ...(signal && { signal }) }, taken) as Promise<
          Trial<T>
        >,
    );
  return {
    ...summarizeSweep<T>(trials, await evaluation.dense(), environment),
    ...(search && { search: { ...search.record(trials, stopped), ...(winners && { winners }) } }),
    ...(race && { race: race.record, stopped }),
  };
}

/** @internal How methods are compared, and how that may be watched and stopped. */
export type ComparisonControl = Pick<
  ComparisonArguments,
  "match" | "budgeted" | "blockSize" | "resamples" | "log" | "signal" | "onProgress" | "onItems"
>;

/**
 * Compares methods on a model and a text, as `deno task compare` does; finished runs are kept where a log is given.
 *
 * @param methods From {@linkcode comparedMethods}, or named by hand.
 * @throws {RangeError} If the text is shorter than a chunk, or a schedule cannot be reached.
 * @throws The signal's reason, if it is aborted.
 *
 * @example
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { comparedMethods, compareStudy } from "@tokenfilter/tokenfilter/sweep";
 * const model = await loadModel("tiny", new ReferenceBackend());
 * const study = { model, text: await readBuiltinText(), context: 32, tokens: 32 };
 * const base = { tail: 0.1, pruneRatio: 0.05, warmup: 8 };
 * const { methods } = await compareStudy(study, comparedMethods(["random", "key"], base, 1), { resamples: 20 });
 * console.assert(methods.length === 3 && methods[0]!.name === "dense");
 * ```
 */
export async function compareStudy<T extends TaskTypes = PerplexityTypes>(
  study: Study<T>,
  methods: readonly NamedMethod[],
  control: ComparisonControl = {},
): Promise<Comparison<T>> {
  const bind = binderOf(study);
  methods.forEach(({ options }) => bind(options)); // refuses invalid methods before any runs
  const environment = await describeStudy(study);
  return await compareMethods({
    ...control,
    methods,
    evaluation: openStudy(study),
    createPruner: bind,
    environment,
  });
}
