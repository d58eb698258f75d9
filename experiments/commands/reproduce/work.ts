/** The work of a recipe: jobs that processes share by the study, and the tables of their results. */
import { UsageError } from "../../../lib/errors.ts";
import { measureLengths, readMetric } from "../../../lib/eval/mod.ts";
import { plural } from "../../../lib/plural.ts";
import { recordOptions } from "../../../lib/methods/mod.ts";
import { type DenseCheck, isComparable, type Reproduction } from "../../../lib/plot/mod.ts";
import {
  binderOf,
  type ComparedChunk,
  compareStudy,
  type Comparison,
  encodeStudy,
  type StudyStore,
} from "../../../lib/sweep/mod.ts";
import { findTask } from "../../../lib/eval/mod.ts";
import { exists } from "../cli/files.ts";
import { type FlagValues, parseFlags, textOf } from "../cli/flags/parse.ts";
import { readBackend } from "../cli/machine/backend.ts";
import type { Progress } from "../cli/output/progress.ts";
import { startWorkers } from "../cli/run/jobs.ts";
import { expectSameStudy, hasEnded, ownerName } from "../cli/run/study_store.ts";
import { type PlannedPart, planParts } from "./parts.ts";
import { findPublished, readRecipe, type Recipe, RECIPES } from "./recipe.ts";

/** Time after a worker's last heartbeat until its job waits again; at once if its process has ended on this machine. */
const LEASE_MS = 600_000;
/** Milliseconds between two signs of a worker. */
const SIGN_MS = 5_000;
/** Milliseconds between two searches for a job, if others run the last ones. */
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

/** Thrown if another process has taken the job meanwhile. */
class JobLostError extends Error {}

/**
 * Runs jobs of a study next to other processes until none is left, with anybody.
 *
 * @throws The signal's reason, if it is aborted.
 */
export async function runJobs(
  store: StudyStore,
  parts: readonly PlannedPart[],
  { signal, progress }: Control,
): Promise<void> {
  const { dense, filtered } = listJobs(parts), owner = ownerName();
  const jobs = new Map([...dense, ...filtered].map((job) => [job.digest, job]));
  for (;;) {
    signal.throwIfAborted();
    for (const other of store.owners()) {
      if (other !== owner && hasEnded(other)) store.release(other);
    }
    const claim = store.claim(owner, LEASE_MS);
    if (claim === undefined) {
      const { waiting, running } = store.count();
      if (waiting + running === 0) return;
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
      continue;
    }
    const { part, methods } = jobs.get(claim.digest)!, began = performance.now();
    let signed = began;
    const onProgress = (fraction: number, method: string) => {
      const now = performance.now(), { complete } = store.count();
      progress.step((complete + Math.min(fraction, 1)) / jobs.size, `${claim.digest}, ${method}`);
      if (now - signed < SIGN_MS) return;
      signed = now;
      if (!store.report(claim, [], LEASE_MS)) throw new JobLostError();
    };
    try {
      await comparePart(store, part, methods, { signal, onProgress, resamples: 1 });
      store.finish(claim, { trial: claim.digest, timeMs: performance.now() - began });
    } catch (error) {
      store.release(owner);
      if (!(error instanceof JobLostError)) throw error;
    }
  }
}

/** Compares methods of a part; chunks in the study are not run again. */
async function comparePart(
  store: StudyStore,
  part: PlannedPart,
  methods: PlannedPart["methods"],
  control: Parameters<typeof compareStudy>[2],
): Promise<Comparison> {
  const { match, study } = part, log = logOf(store, part);
  return await compareStudy(study, methods, { ...control, log, ...(match && { match }) });
}

/** Inputs of a run. */
interface RecipeRun extends Control {
  readonly recipe: Recipe;
  readonly parts: readonly PlannedPart[];
  /** The model that published numbers are of. */
  readonly model: string | undefined;
  readonly jobs: number;
  readonly threads: number | undefined;
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
    const found = await comparePart(store, part, methods, { signal });
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
  const { parts, jobs: processes, threads, progress } = run;
  // The recipe has the methods of a job; a row of the study has options, here those of the first method.
  store.add(jobs.map(({ digest, part, methods }) => ({
    digest,
    options: recordOptions((methods[0] ?? part.methods[0]!).options),
  })));
  const isOver = () => store.count().waiting + store.count().running === 0;
  if (isOver()) return;
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
  const { methods: [dense], environment } = await comparePart(store, part, [], { signal, resamples: 1 });
  const { headline } = findTask(environment.task), value = readMetric(dense!, headline.name);
  const found = headline.percent ? 100 * value : value;
  const off = (published: number) => Math.abs(found / published - 1);
  const nearest = known.reduce((a, b) => off(b.value) < off(a.value) ? b : a), { source } = nearest;
  const check = { label: part.protocol.label, found, published: nearest.value, source };
  if (off(nearest.value) <= TOLERANCE) return check;
  throw new UsageError(
    `Cannot go on: dense ${model} has ${
      found.toPrecision(4)
    } on ${check.label}, published ${nearest.value} ` +
      `(${source}), ${
        (100 * off(nearest.value)).toFixed(1)
      }% apart, expected at most 1%; check the model's files ` +
      `and --dtype, or leave published numbers out by --published none (${
        plural(countFinished(store, [part.name]), "chunk")
      } kept)`,
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
  const lengths = recipe.lengths.filter((length) => length + DECODES <= ids.length);
  signal.throwIfAborted();
  const rows = measureLengths(
    study.model.model,
    ids,
    [
      { name: "dense" },
      ...[...named].flatMap(([name, options]) => {
        const pruner = bind(options);
        return typeof pruner === "function" ? [] : [{ name, pruner }];
      }),
    ],
    { lengths, decodes: DECODES, onProgress: (fraction) => progress.bar(fraction, "lengths") },
  );
  log.append({ rows });
  return rows;
}

/** Tokens decoded after each prefill. */
const DECODES = 8;

/** Flags of a recipe that its study does not keep otherwise. */
const OWN = ["recipe", "methods", "ratios", "seeds"] as const;

/** Keeps the flags in a study with which its workers plan the same recipe. */
export function keepRecipe(store: StudyStore, values: FlagValues): void {
  const own = OWN.filter((name) => values.has(name)).map((name) => {
    const text = String(values.get(name)![0]);
    return [name, name === "recipe" && exists(text) ? Deno.realPathSync(text) : text];
  });
  store.set("flags", { ...store.flags, ...Object.fromEntries(own) });
}

/** Runs jobs of a recipe's study until none is left. @param own Flags that differ here. */
export async function workOnRecipe(
  store: StudyStore,
  own: { readonly [flag: string]: string },
  control: Control,
): Promise<void> {
  const args = Object.entries({ ...store.flags, ...own })
    .flatMap(([name, text]) => text === "true" ? [`--${name}`] : [`--${name}`, text]);
  const values = parseFlags("reproduce", args, false);
  const recipe = await readRecipe(textOf(values, "recipe") ?? RECIPES[0]);
  const { parts, conditions } = await planParts(recipe, { ...control, values, request: readBackend(values) });
  expectSameStudy(store, conditions);
  await runJobs(store, parts, control);
}
