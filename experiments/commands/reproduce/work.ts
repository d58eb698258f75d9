/** The work of a recipe: jobs that processes share by the study, and the tables of their results. */
import { UsageError } from "../../../lib/errors.ts";
import { measureLengths } from "../../../lib/eval/lengths.ts";
import { readMetric } from "../../../lib/eval/metrics.ts";
import { plural } from "../../../lib/plural.ts";
import { recordOptions } from "../../../lib/methods/bind/options.ts";
import { type DenseCheck, isComparable, type Reproduction } from "../../../lib/plot/reports/reproduction.ts";
import type { Comparison } from "../../../lib/sweep/compare/comparison.ts";
import type { ComparedChunk } from "../../../lib/sweep/compare/method_runs.ts";
import { FIELD, type Fields, findWrongField } from "../../../lib/sweep/fields.ts";
import { binderOf, compareStudy, encodeStudy } from "../../../lib/sweep/study.ts";
import { takeAll } from "../../../lib/sweep/trials/runner.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type {
  EndedJob,
  FinishedRuns,
  StudyConditions,
  StudyFlags,
} from "../../../lib/sweep/trials/store_records.ts";
import { StudyTrials } from "../../../lib/sweep/trials/trial_source.ts";
import { findTask } from "../../../lib/eval/tasks/mod.ts";
import { parseJson } from "../cli/files.ts";
import { parseArguments, textOf } from "../cli/flags/parse.ts";
import { readBackend } from "../cli/machine/backend.ts";
import type { Progress } from "../cli/output/progress.ts";
import { startWorkers } from "../cli/run/jobs.ts";
import { expectSameStudy, hasEnded, ownerName } from "../cli/run/study_store.ts";
import type { JobKind } from "../queue/job.ts";
import type { submitTrials } from "../queue/submit.ts";
import { ARGUMENTS } from "./flags.ts";
import { type PlannedPart, planParts } from "./parts.ts";
import { findPublished, listBatches, readRecipe, type Recipe, RECIPES } from "./recipe.ts";

/** Time after a worker's last heartbeat until its job waits again; at once if its process has ended on this machine. */
const LEASE_MS = 600_000;
/** Milliseconds after which a worker renews the lease of its job. */
const RENEW_MS = 5_000;
/** Milliseconds between two looks at the jobs of a queue. */
const WAIT_MS = 200;

/** Work that one process does: the full model of a part, or all methods of a part at one ratio. */
interface Job {
  readonly digest: string;
  readonly part: PlannedPart;
  readonly methods: PlannedPart["methods"];
}

/** The jobs of parts: first the full model of each, then the methods, ratio by ratio. */
function listJobs(parts: readonly PlannedPart[]): { readonly dense: Job[]; readonly filtered: Job[] } {
  return {
    dense: parts.map((part) => ({ digest: `${part.name}: dense`, part, methods: [] })),
    filtered: parts.flatMap((part) =>
      [...Map.groupBy(part.methods, ({ asked }) => asked)].map(([asked, methods]) => ({
        ...{ digest: `${part.name}: ${asked ?? "methods"}`, part, methods },
      }))
    ),
  };
}

const logOf = (store: StudyStore, { name }: PlannedPart) =>
  store.units<ComparedChunk>(`chunk ${name}`, ({ trial, chunk }) => `${trial} ${chunk}`, true);

/** Number of chunks and items of parts in a study. */
export const countFinished = (store: StudyStore, parts: readonly string[]): number =>
  parts.reduce((sum, name) => sum + store.countUnits(`chunk ${name}`), 0);

/** Progress and interruption of work. */
interface Control {
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/**
 * Runs jobs of a study next to other processes until none is left, with anybody.
 *
 * @throws The signal's reason, if it is aborted.
 */
async function runJobs(
  store: StudyStore,
  parts: readonly PlannedPart[],
  { signal, progress }: Control,
): Promise<void> {
  const { dense, filtered } = listJobs(parts);
  const jobs = new Map([...dense, ...filtered].map((job) => [job.digest, job]));
  const source = new StudyTrials(store, { owner: ownerName(), isDead: hasEnded, leaseMs: LEASE_MS });
  const run = async ({ digest }: { readonly digest: string }) => {
    const { part, methods } = jobs.get(digest)!, began = performance.now();
    let renewed = began;
    const onProgress = (fraction: number, label: string) => {
      const now = performance.now(), { complete } = store.count();
      progress.step((complete + Math.min(fraction, 1)) / jobs.size, `${digest}, ${label}`);
      if (now - renewed < RENEW_MS) return;
      renewed = now;
      source.renew();
    };
    await comparePart(logOf(store, part), part, methods, { signal, onProgress, resamples: 1 });
    source.finish({ trial: digest, timeMs: performance.now() - began });
  };
  await takeAll(source, run, { signal });
}

/** Compares methods of a part; chunks in the log are not run again. */
async function comparePart(
  log: FinishedRuns<ComparedChunk>,
  { match, study }: PlannedPart,
  methods: PlannedPart["methods"],
  control: Omit<Parameters<typeof compareStudy>[2] & object, "log">,
): Promise<Comparison> {
  return await compareStudy(study, methods, { ...control, log, ...(match && { match }) });
}

/** A finished chunk or item with its part, as workers of a queue send it. */
type SentUnit = ComparedChunk & { readonly part: string };

const UNIT: Fields = {
  ...{ part: FIELD.text, trial: FIELD.text, method: FIELD.text, chunk: FIELD.number, timeMs: FIELD.number },
  scores: [
    "lists of numbers",
    (value) => typeof value === "object" && value !== null && Object.values(value).every(FIELD.numbers[1]),
  ],
  usage: ["a record", (value) => typeof value === "object" && value !== null],
  skips: ["a record", (value) => typeof value === "object" && value !== null],
};

/** Runs jobs of a recipe whose study is elsewhere. The full model's chunks are kept in memory for the methods of a part. */
export function openJobs(parts: readonly PlannedPart[]) {
  const { dense, filtered } = listJobs(parts), known = new Map<string, Map<string, ComparedChunk>>();
  const jobs = new Map([...dense, ...filtered].map((job) => [job.digest, job]));
  return async (
    digest: string,
    { onUnit, onProgress }: {
      readonly onUnit: (unit: SentUnit) => void;
      readonly onProgress: (fraction: number) => void;
    },
  ): Promise<EndedJob> => {
    const job = jobs.get(digest);
    if (job === undefined) {
      throw new UsageError(`Cannot run job "${digest}": the recipe has none of this name`);
    }
    const { part, methods } = job,
      kept = known.getOrInsertComputed(part.name, () => new Map<string, ComparedChunk>());
    const append = (...units: readonly ComparedChunk[]) => {
      for (const unit of units) {
        if (unit.trial === "dense") kept.set(`${unit.chunk}`, unit);
        onUnit({ part: part.name, ...unit });
      }
    };
    const began = performance.now();
    await comparePart({ finished: [...kept.values()], append }, part, methods, { onProgress, resamples: 1 });
    return { trial: digest, timeMs: performance.now() - began };
  };
}

/** The jobs of a recipe's study in a queue. */
export function jobsOfRecipe(store: StudyStore, { content }: Recipe, parts: readonly PlannedPart[]): JobKind {
  const logs = new Map(parts.map((part) => [part.name, logOf(store, part)]));
  const takeUnit = (text: string): string | undefined => {
    const value = parseJson(text);
    if (value === undefined) return "it is not JSON";
    const unit = Object(value), wrong = findWrongField(unit, UNIT), { part, ...own } = unit as SentUnit;
    if (wrong !== undefined) return wrong;
    const log = logs.get(part);
    if (log === undefined) return `found part "${part}", expected one of the recipe's`;
    log.append(own);
    return undefined;
  };
  return {
    recipe: content,
    findWrong(result, { digest }) {
      const wrong = findWrongField(Object(result), { trial: FIELD.text, timeMs: FIELD.number });
      return wrong ?? (Object(result).trial === digest ? undefined : "it is another job's");
    },
    take: (result, { digest, options }) => void store.take([{ digest, options, record: result }]),
    takeUnits: (units) => units.flatMap((text) => takeUnit(text) ?? []),
  };
}

/** Inputs of a run. */
interface RecipeRun extends Control {
  readonly recipe: Recipe;
  readonly parts: readonly PlannedPart[];
  /** The model that published numbers are of. */
  readonly model: string | undefined;
  readonly jobs: number;
  readonly threads: number | undefined;
  /** Gives jobs to a queue, where one was named, until they are disposed of. */
  readonly submit?: (
    source: StudyTrials,
    kind: JobKind,
  ) => ReturnType<typeof submitTrials>;
  /** The most bytes that this process held. */
  readonly peakBytes: () => number;
}

/**
 * Runs a recipe: first the full model of parts with a published number, and its check; then all else, and the lengths.
 *
 * @throws {UsageError} If a dense number is not the published one of the same protocol. All work is kept.
 */
export async function runRecipe(store: StudyStore, run: RecipeRun): Promise<Reproduction> {
  const { recipe, parts, signal, model } = run, { published } = recipe;
  const { dense, filtered } = listJobs(parts);
  const checks: DenseCheck[] = [];
  for (const job of dense) {
    const targets = listTargets(job.part, run);
    if (targets.length === 0) continue;
    await share(store, [job], run);
    checks.push(await checkDense(store, job.part, targets, run));
  }
  await share(store, [...dense, ...filtered], run);
  const reproduced = [];
  for (const part of parts) {
    const { name, protocol: { label, says }, methods, isWhole, isUnchecked } = part;
    const found = await comparePart(logOf(store, part), part, methods, { signal });
    const environment = { ...found.environment, peakMemoryBytes: run.peakBytes() };
    const numbers = findPublished(published, model, name);
    reproduced.push({
      ...{ protocol: name, label, says, isWhole, ...(isUnchecked && { isUnchecked }) },
      ...{ comparison: { ...found, environment }, published: numbers },
    });
  }
  const same = new Set(reproduced.filter(isComparable).map(({ protocol }) => protocol));
  const others = Object.entries(published.protocols).flatMap(([protocol, { label, says }]) => {
    const numbers = same.has(protocol) ? [] : findPublished(published, model, protocol);
    return numbers.length === 0 ? [] : [{ protocol, label, says, numbers }];
  });
  return {
    ...{ recipe: recipe.name, version: recipe.version, about: recipe.about, ...(model && { model }) },
    ...{ checks, parts: reproduced, others, lengths: readLengths(store, run) },
    environment: reproduced[0]!.comparison.environment,
  };
}

/** Gives jobs to the study, and runs them with as many processes as were asked for. */
async function share(store: StudyStore, jobs: readonly Job[], run: RecipeRun): Promise<void> {
  const { parts, jobs: processes, threads, progress, signal, submit } = run;
  // The recipe has the methods of a job; a row of the study has options, here those of the first method.
  store.add(jobs.map(({ digest, part, methods }) => ({
    digest,
    options: recordOptions((methods[0] ?? part.methods[0]!).options),
  })));
  const isOver = () => store.count().waiting + store.count().running === 0;
  if (isOver()) return;
  if (submit !== undefined) {
    const source = new StudyTrials(store, { owner: ownerName() });
    await using queued = await submit(source, jobsOfRecipe(store, run.recipe, parts));
    for (; !queued.source.isOver(); await new Promise((resolve) => setTimeout(resolve, WAIT_MS))) {
      signal.throwIfAborted();
      const { complete } = store.count();
      progress.bar(complete / (complete + store.count().waiting), "jobs of the queue");
    }
    return;
  }
  const workers = Math.min(processes, store.count().waiting) - 1;
  await using _workers = await startWorkers(store, Math.max(0, workers), { threads, isOver, progress });
  await runJobs(store, parts, run);
}

/** Largest relative difference of a full model's number from the published one. */
const TOLERANCE = 0.01;

type Targets = ReturnType<typeof findPublished>;

/** Published numbers that the full model is checked with: those of the same protocol, of all its data. */
function listTargets(part: PlannedPart, { recipe, model }: RecipeRun): Targets {
  const all = isComparable(part) ? findPublished(recipe.published, model, part.name) : [];
  return all.filter(({ row, isTarget }) => row === "dense" && isTarget);
}

/** Compares the full model's number of a part with published ones. @throws {UsageError} If it is near none of them. */
async function checkDense(
  store: StudyStore,
  part: PlannedPart,
  known: Targets,
  { model, signal }: RecipeRun,
): Promise<DenseCheck> {
  const control = { signal, resamples: 1 };
  const { methods: [dense], environment } = await comparePart(logOf(store, part), part, [], control);
  const { headline } = findTask(environment.task), value = readMetric(dense!, headline.name);
  const found = headline.percent ? 100 * value : value;
  const off = (published: number) => Math.abs(found / published - 1);
  const nearest = known.reduce((a, b) => off(b.value) < off(a.value) ? b : a), { source } = nearest;
  const check = { label: part.protocol.label, found, published: nearest.value, source };
  if (off(nearest.value) <= TOLERANCE) return check;
  const shown = found.toPrecision(4), apart = (100 * off(nearest.value)).toFixed(1);
  const kept = plural(countFinished(store, [part.name]), "chunk");
  throw new UsageError(
    `Cannot go on: dense ${model} has ${shown} on ${check.label}, published ${nearest.value} (${source}), ` +
      `${apart}% apart, expected at most 1%; check the model's files and --dtype, or leave published numbers out by ` +
      `--published none (${kept} kept)`,
  );
}

/** Time and memory against length, of the full model and of each method at the highest ratio; measured once. */
function readLengths(
  store: StudyStore,
  { recipe, parts, signal, progress }: RecipeRun,
): Reproduction["lengths"] {
  const log = store.units<{ readonly rows: Reproduction["lengths"] }>("lengths", () => "lengths");
  if (log.finished[0] !== undefined) return log.finished[0].rows;
  const part = parts.find(({ protocol }) => protocol.context !== undefined);
  if (part === undefined || recipe.lengths.length === 0) return [];
  const { study, methods } = part, ids = encodeStudy(study), bind = binderOf(study);
  const highest = Math.max(...methods.map(({ asked }) => asked ?? 0));
  const named = new Map(
    methods.filter(({ asked }) => (asked ?? 0) === highest).map(({ name, options }) => [name, options]),
  );
  signal.throwIfAborted();
  const measured = [
    { name: "dense" },
    ...[...named].flatMap(([name, options]) => {
      const pruner = bind(options);
      return typeof pruner === "function" ? [] : [{ name, pruner }];
    }),
  ];
  const all = listBatches(recipe), { model } = study.model;
  const rows = all.flatMap(({ batch, lengths }, i) =>
    measureLengths(model, ids, measured, {
      ...{ batch, decodes: DECODES, lengths: lengths.filter((length) => length + DECODES <= ids.length) },
      onProgress: (part) => progress.bar((i + part) / all.length, "lengths"),
    })
  );
  log.append({ rows });
  return rows;
}

/** Tokens decoded after each prefill. */
const DECODES = 8;

/** Plans the recipe of a study's flags. @param content The recipe's JSON; default: that of its file. */
async function planFlags(flags: StudyFlags, progress: Progress, content?: string) {
  const args = Object.entries(flags)
    .flatMap(([name, text]) => text === "true" ? [`--${name}`] : [`--${name}`, text]);
  const { values } = parseArguments(ARGUMENTS, args);
  const recipe = await readRecipe(textOf(values, "recipe") ?? RECIPES[0], content);
  return await planParts(recipe, { values, progress, request: readBackend(values) });
}

/** Runs jobs of a recipe's study until none is left. @param own Flags that differ here. */
export async function workOnRecipe(store: StudyStore, own: StudyFlags, control: Control): Promise<void> {
  const { parts, conditions } = await planFlags({ ...store.flags, ...own }, control.progress);
  expectSameStudy(store, conditions);
  await runJobs(store, parts, control);
}

/**
 * Opens a recipe whose study is elsewhere.
 *
 * @param content Its JSON.
 * @param expect Looks at the conditions before anything runs.
 * @returns Runs a job by its name.
 */
export async function openRecipe(
  flags: StudyFlags,
  content: string,
  expect: (conditions: StudyConditions) => void,
  progress: Progress,
): Promise<ReturnType<typeof openJobs>> {
  const { parts, conditions } = await planFlags(flags, progress, content);
  expect(conditions);
  return openJobs(parts);
}
