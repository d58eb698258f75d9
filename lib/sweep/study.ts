/** A model on a text, in a few lines: what the run is, and a sweep without a folder of results. */
import type { Backend } from "../backend.ts";
import type { CacheDType } from "../dtype.ts";
import type { Environment, RunConditions } from "../environment.ts";
import { type Evaluation, type EvaluationTask, labelOf, type TaskTypes } from "../eval/task.ts";
import { findTask, type PerplexityTypes, TASKS } from "../eval/tasks/mod.ts";
import type { LoadedModel } from "../model/load.ts";
import type { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import { digestTokenizer } from "../model/tokenizer/tokenizer_digest.ts";
import type { NamedMethod } from "./compared_methods.ts";
import { compareMethods, type Comparison, type ComparisonArguments } from "./comparison.ts";
import { sha256 } from "../sha256.ts";
import { digestConditions, runSweep, type SweepProgress } from "./runner.ts";
import { expandGrids, type Grid } from "./space.ts";
import { summarizeSweep } from "./summary.ts";
import type { FinishedRuns } from "./run_log.ts";
import type { StudyStore } from "./store.ts";
import type { SweepSummary, Trial } from "./trial.ts";
import type { Search } from "./search.ts";
import type { TrialRace } from "./trial_race.ts";
import { listedTrials, type TrialSource } from "./trial_source.ts";
import { createPruner, ownRule, recordCalibration, type ResolvedOptions } from "../methods/mod.ts";

/** Tokens of a chunk where nothing else is said. */
export const DEFAULT_CONTEXT = 512;

/** A model and the text that it is to read. */
export interface Study<T extends TaskTypes = PerplexityTypes> {
  /** What is evaluated: one of `TASKS`; default perplexity. */
  readonly task?: EvaluationTask<T>;
  /** The model, on its backend. */
  readonly model: LoadedModel;
  /** The text. */
  readonly text: string;
  /** What to call it; default `text`. */
  readonly textName?: string;
  /** Tokens a chunk; default {@linkcode DEFAULT_CONTEXT}. */
  readonly context?: number;
  /** Use the first tokens alone; default: all. */
  readonly tokens?: number;
  /** Bytes of what the dense model gives that may be kept from trial to trial; default: 1 GiB. */
  readonly cacheBytes?: number;
}

/** @internal A study whose model is read, but not yet on a backend. */
export interface StudyPlan extends Omit<Study<TaskTypes>, "model"> {
  /** The model's file. */
  readonly model: Pick<LoadedModel, "name" | "sha256" | "tokenizer" | "dtype">;
}

/** Token ids of a study: BOS at the front where the tokenizer adds one, cut at `tokens`. */
export function encodeStudy({ model: { tokenizer }, text, tokens }: StudyPlan): Int32Array<ArrayBuffer> {
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
 * What a study's numbers depend on. The package's version is read when this is called.
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
  const { model, text, textName = "text", context = DEFAULT_CONTEXT, task } = study, rule = ownRule();
  return {
    ...(task !== undefined && task.name !== TASKS[0].name && { task: task.name }),
    ...(rule !== undefined && { ruleSha256: rule.sha256 }),
    ...recordCalibration(),
    version: await readVersion(),
    model: model.name,
    modelSha256: model.sha256,
    text: textName,
    textSha256: await sha256(text),
    context,
    textTokens: Math.floor(encodeStudy(study).length / context) * context,
    bos: model.tokenizer.addsBos,
    backend,
    cacheDType,
    ...(products && { products }),
    ...(model.dtype && { dtype: model.dtype }),
  };
}

/** What a study's numbers depend on, and where they were measured. */
export async function describeStudy(study: Study<TaskTypes>): Promise<Environment> {
  const { backend, cacheDType } = study.model.model;
  const conditions = await describeConditions(study, backend.name, cacheDType, backend.products);
  return {
    ...conditions,
    runDigest: await digestConditions(conditions),
    tokensSha256: await sha256(new Uint8Array(encodeStudy(study).slice(0, conditions.textTokens).buffer)),
    tokenizerSha256: await digestTokenizer(study.model.tokenizer),
    protocol: findTask(conditions.task).protocol,
    label: labelOf(findTask(conditions.task), conditions.context),
    backendDescription: backend.description,
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    startedAt: new Date().toISOString(),
  };
}

/** The package's version. */
export async function readVersion(): Promise<string> {
  const response = await fetch(new URL("../../deno.json", import.meta.url));
  return (await response.json()).version;
}

/** Opens a study's task on its model and text. */
export function openStudy<T extends TaskTypes = PerplexityTypes>(study: Study<T>): Evaluation<T> {
  const { model, context = DEFAULT_CONTEXT, task = TASKS[0], cacheBytes } = study;
  const data = {
    ids: encodeStudy(study),
    text: study.text,
    context,
    tokenizer: model.tokenizer,
    ...(cacheBytes !== undefined && { cacheBytes }),
  };
  return task.open(model.model, data) as Evaluation<T>;
}

/** @internal How a sweep may be watched and stopped. */
export interface SweepControl<T extends TaskTypes = TaskTypes> {
  /** Where trials go as they end, and where finished ones are found; default: nothing is kept. */
  readonly log?: FinishedRuns<Trial<T>>;
  /**
   * Where the grid's trials are taken from in place of a list in memory.
   * @internal
   */
  readonly source?: TrialSource<T>;
  /** Stops trials that will not be the best. */
  readonly race?: TrialRace;
  /**
   * The search that the source's trials come from: the summary says what it found.
   * @internal
   */
  readonly search?: Search<Trial<T>>;
  /** Stops between two chunks; the signal's reason is then thrown. */
  readonly signal?: AbortSignal;
  /** Called after every chunk and trial. */
  readonly onProgress?: (progress: SweepProgress) => void;
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
  { log, source, search, ...control }: SweepControl<T> = {},
): Promise<SweepSummary<T>> {
  const { model, config } = study.model;
  const methods = expandGrids(grids);
  const bind = (method: ResolvedOptions) =>
    createPruner("token-filtering", config, method, { backend: model.backend });
  methods.forEach(bind); // what cannot be run is refused before anything is
  const environment = await describeStudy(study);
  const evaluation = openStudy(study), trialSource = source ?? await listedTrials<T>(methods, log);
  const trials = await runSweep({
    ...control,
    source: trialSource,
    evaluation,
    createPruner: bind,
    conditions: await describeConditions(
      study,
      model.backend.name,
      model.cacheDType,
      model.backend.products,
    ),
  });
  const { race } = control, stopped = trialSource.stopped?.() ?? [];
  return {
    ...summarizeSweep<T>(trials, await evaluation.dense(), environment),
    ...(search && { search: search.record(trials, stopped) }),
    ...(race && { race: race.record, stopped }),
  };
}

/**
 * Runs trials of a study on disk beside other workers, until none is left.
 *
 * @param study The model and text that the store's conditions name.
 * @throws The signal's reason, if it is aborted.
 */
export async function runStudyTrials(
  study: Study<TaskTypes>,
  store: StudyStore,
  control: Pick<SweepControl, "signal" | "onProgress" | "race"> & { readonly source: TrialSource },
): Promise<void> {
  const { model, config } = study.model;
  if (control.source.isOver()) return;
  await runSweep({
    ...control,
    evaluation: openStudy(study),
    createPruner: (method) => createPruner("token-filtering", config, method, { backend: model.backend }),
    conditions: store.conditions,
  });
}

/** @internal How methods are compared, and how that may be watched and stopped. */
export type ComparisonControl = Pick<
  ComparisonArguments,
  "blockSize" | "resamples" | "log" | "signal" | "onProgress" | "onItems"
>;

/**
 * Compares methods on a model and a text, as `deno task compare` does; finished runs are kept where a log is given.
 *
 * @param methods Of {@linkcode comparedMethods}, or named by hand.
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
  const { model, config } = study.model;
  const pruners = new Map(
    methods.map((
      { options },
    ) => [options, createPruner("token-filtering", config, options, { backend: model.backend })]),
  );
  const environment = await describeStudy(study);
  return await compareMethods({
    ...control,
    methods,
    evaluation: openStudy(study),
    createPruner: (options) => pruners.get(options)!,
    environment,
  });
}
