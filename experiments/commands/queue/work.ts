/** `worker --queue`: trials of any study whose model, text and code this machine has. */
import { DelayedError, type Job, UnrecoverableError, Worker } from "bullmq";
import type { Redis } from "ioredis";
import { cacheDir, ifThere, writeAtomically } from "../../../lib/cache.ts";
import { UsageError } from "../../../lib/errors.ts";
import { binderOf, openStudy } from "../../../lib/sweep/study.ts";
import type { RunConditions } from "../../../lib/sweep/trial.ts";
import { runTrial } from "../../../lib/sweep/trials/runner.ts";
import { MAX_ATTEMPTS } from "../../../lib/sweep/trials/store.ts";
import type { StudyConditions, StudyFlags } from "../../../lib/sweep/trials/store_records.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { digestCode } from "../cli/machine/code_digest.ts";
import type { Progress } from "../cli/output/progress.ts";
import { openStudyOf } from "../cli/run/study.ts";
import { completeConditions, expectConditions, ownerName } from "../cli/run/study_store.ts";
import { explainError } from "../cli/task.ts";
import { Connections, endsWithin, type QueueAddress } from "./connection.ts";
import {
  endedKey,
  findWrongJob,
  type JobProgress,
  type JobResult,
  KEEP_S,
  QUEUE_NAME,
  type QueuedStudy,
  readMethod,
  readStudy,
  studyKey,
  textKey,
  type TrialJob,
  unitsKey,
} from "./job.ts";
import { openRecipe } from "../reproduce/work.ts";
import { joinRace, keepRace } from "./race.ts";

/** Milliseconds after which a trial that one worker refused is offered again. */
const OFFER_MS = 1000;

/** Milliseconds in which a finished worker returns its trial and closes, if the server is there. */
const CLOSE_MS = 5000;

interface WorkOptions {
  /** Flags of its own, instead of the study's. */
  readonly own: { readonly [flag: string]: string };
  /** Seconds without a heartbeat until another worker gets a worker's trial. */
  readonly leaseS: number;
  /** Ends the work once the trial at work is done. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

type Opened = (job: Job<TrialJob>, onProgress: (fraction: number) => void) => Promise<JobResult>;

/** A study that a job names, opened or refused; `key` is its digest and description. */
type Answer = { readonly key: string } & ({ readonly run: Opened } | { readonly refused: string });

/** Works until the signal comes. @throws {UsageError} If the server cannot be reached, or is away for too long. */
export async function workOnQueue(address: QueueAddress, options: WorkOptions): Promise<void> {
  const { leaseS, signal, progress } = options, owner = ownerName(), { prefix } = address;
  using connections = await Connections.open(address);
  const redis = connections.connect(), codeSha256 = await digestCode();
  const said = new Set<string>();
  let last: Answer | undefined;
  const open = async (study: string): Promise<Answer> => {
    const text = await redis.get(studyKey(prefix, study)), key = `${study} ${text}`;
    if (last?.key === key) return last;
    try {
      const described = await readStudy(study, text);
      last = undefined; // a rule or task of the new study replaces that of the last one
      return last = { key, run: await openQueued(study, described, codeSha256, redis, prefix, options) };
    } catch (error) {
      const refused = explainError(error);
      if (refused === undefined) throw error;
      if (!said.has(refused)) progress.line(`Refuses the trials of a study: ${refused}`);
      said.add(refused);
      const answer = { key, refused };
      if (!(error instanceof NotThereError)) last ??= answer; // the queue may get the missing data later
      return answer;
    }
  };
  const work = async (job: Job<TrialJob>, token?: string): Promise<JobResult> => {
    const wrong = findWrongJob(job.data);
    if (wrong !== undefined) giveUp(new Error(`Cannot take a job: ${wrong}`));
    const opened = await open(job.data.study),
      tell = (more: Omit<JobProgress, "owner">) => job.updateProgress({ owner, ...more });
    if ("refused" in opened) {
      await tell({ refused: opened.refused });
      await job.moveToDelayed(Date.now() + OFFER_MS, token);
      throw new DelayedError();
    }
    await tell({ fraction: 0 });
    const trial = await opened.run(job, (fraction) => void tell({ fraction }).catch(() => {}));
    progress.line(`${"stopped" in trial ? "Stopped" : "Finished"} trial ${trial.trial}`);
    return trial;
  };
  /** The trial at work, until it is handed in. */
  let atWork: Promise<unknown> | undefined;
  const worker = new Worker<TrialJob, JobResult>(
    QUEUE_NAME,
    (job, token) => {
      const running = work(job, token);
      atWork = running.catch(() => {});
      return running;
    },
    {
      connection: connections.connect(),
      prefix,
      lockDuration: 1000 * leaseS,
      stalledInterval: 500 * leaseS,
      maxStalledCount: MAX_ATTEMPTS - 1,
    },
  );
  const handedIn = () => atWork = undefined;
  worker.on("completed", handedIn);
  worker.on("failed", handedIn);
  worker.on("error", () => {}); // `gone` reports it; a trial that moved to another worker is no error
  const told = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  if (!signal.aborted) await Promise.race([told, connections.gone]);
  progress.line("Ends after the trial at work");
  const closed = worker.close();
  if (atWork !== undefined) await Promise.race([atWork.then(() => redis.ping()), connections.gone]);
  // While its connection for waiting is being made again, BullMQ waits for an end of it that never comes.
  await endsWithin(CLOSE_MS, Promise.race([closed, connections.gone]));
}

/** Fails a job for good. */
function giveUp({ message }: Error): never {
  throw new UnrecoverableError(message);
}

/** Data that a queue has lost, or does not have yet. */
class NotThereError extends UsageError {}

/** Opens a study that a job names. @throws {UsageError} If this machine has another model, text or code. */
async function openQueued(
  study: string,
  described: QueuedStudy,
  codeSha256: string,
  redis: Redis,
  prefix: string,
  options: WorkOptions,
): Promise<Opened> {
  const { codeSha256: expected, recipe } = described;
  if (codeSha256 !== expected) {
    throw new UsageError(
      `Cannot take trials of study ${study}: found code ${codeSha256}, expected ${expected}`,
    );
  }
  return recipe === undefined
    ? await openSweep(study, described, redis, prefix, options)
    : await openQueuedRecipe(study, recipe, described, redis, prefix, options);
}

async function openQueuedRecipe(
  study: string,
  recipe: string,
  { conditions, flags }: QueuedStudy,
  redis: Redis,
  prefix: string,
  { own, progress }: WorkOptions,
): Promise<Opened> {
  const expect = (found: StudyConditions) =>
    expectConditions(`study ${study}`, completeConditions(conditions), completeConditions(found));
  const run = await openRecipe({ ...flags, ...own }, recipe, expect, progress);
  return async ({ data: { sweep, digest } }, onProgress) => {
    const key = unitsKey(prefix, sweep), sent: Promise<unknown>[] = [];
    const onUnit = (unit: object) =>
      void sent.push(redis.multi().rpush(key, JSON.stringify(unit)).expire(key, KEEP_S).exec());
    const result = await run(digest, { onUnit, onProgress }).catch((error) =>
      error instanceof UsageError ? giveUp(error) : Promise.reject(error)
    );
    await Promise.all(sent);
    return result;
  };
}

async function openSweep(
  study: string,
  { conditions: described, flags }: QueuedStudy,
  redis: Redis,
  prefix: string,
  { own, progress }: WorkOptions,
): Promise<Opened> {
  const conditions = described as RunConditions;
  const path: StudyFlags = flags.text === undefined && flags.data === undefined
    ? {}
    : { text: await fetchText(conditions.textSha256, redis, prefix) };
  const opened = await openStudyOf(`study ${study}`, conditions, { ...flags, ...path, ...own }, progress);
  const evaluation = openStudy(opened), bind = binderOf(opened);
  const raceOf = keepRace(async (race, sweep) => {
    const { chunks } = await evaluation.dense();
    return joinRace(race, chunks, redis, endedKey(prefix, sweep), opened.task);
  });
  return async ({ data }, onProgress) => {
    const taken = { digest: data.digest, method: await Promise.try(readMethod, data).catch(giveUp) };
    const race = await raceOf(data), racing = await race?.enter(taken.method);
    const args = { evaluation, createPruner: bind, conditions, runDigest: study, racing };
    return runTrial(args, taken, {
      onChunk: (done, of) => onProgress(done / of),
      onLosses: () => void race?.look().catch(() => {}),
    });
  };
}

/** A text by its digest: of the cache, else of the queue. @returns Its path. */
async function fetchText(digest: string, redis: Redis, prefix: string): Promise<string> {
  const folder = `${cacheDir()}/texts`, path = `${folder}/${digest}.txt`;
  const known = await ifThere(Deno.readTextFile(path));
  if (known !== undefined && await sha256(known) === digest) return path;
  const text = await redis.get(textKey(prefix, digest));
  if (text === null || await sha256(text) !== digest) {
    throw new NotThereError(`Cannot take trials on text ${digest}: the queue does not have it`);
  }
  await Deno.mkdir(folder, { recursive: true });
  await writeAtomically(path, text);
  return path;
}
