/** `sweep --queue`: trials go to a queue, and results come from it into the study. */
import { type Job, Queue, QueueEvents } from "bullmq";
import { findTask } from "../../../lib/eval/tasks/mod.ts";
import { plural } from "../../../lib/plural.ts";
import { findWrongResult } from "../../../lib/sweep/trials/result.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type { ProposedTrial, StoredRecord, StoredTrial } from "../../../lib/sweep/trials/store_records.ts";
import {
  finishedTrials,
  type StudyTrials,
  type TrialSource,
} from "../../../lib/sweep/trials/trial_source.ts";
import { digestCode } from "../cli/machine/code_digest.ts";
import { sha256 } from "../../../lib/sha256.ts";
import type { Progress } from "../cli/output/progress.ts";
import { expectSweep } from "../cli/run/study_store.ts";
import { type Connections, endsWithin } from "./connection.ts";
import {
  endedKey,
  jobId,
  type JobKind,
  jobOf,
  type JobProgress,
  type JobResult,
  KEEP_S,
  QUEUE_NAME,
  type QueuedStudy,
  studyKey,
  textKey,
  type TrialJob,
  unitsKey,
} from "./job.ts";

/** Jobs that go to the server at once. */
const BATCH = 1000;

/** Chunks and items that are read at once: each may have thousands of numbers. */
const UNITS = 16;

/** Milliseconds between two reads of ended jobs, and of lost ones, unless such a read takes long. */
const POLL_MS = 200, RESTORE_MS = 2000, RESTORE_SHARE = 20;

/** How often a trial is tried, or its result refused, and the wait before the second time, which doubles from then on. */
const ATTEMPTS = 5, BACKOFF_MS = 1000;

/** Milliseconds in which the last read ends, if the server is there. */
const CLOSE_MS = 2000;

/** Characters that are kept of a worker's message. */
const SAID = 500;

/** States of a job. */
const STATES = [
  "waiting",
  "active",
  "delayed",
  "prioritized",
  "waiting-children",
  "completed",
  "failed",
] as const;

type TrialQueue = Queue<TrialJob, JobResult>;

/** Trials of a sweep as jobs: a result is a trial, stopped or not. */
export function jobsOfSweep(store: StudyStore, text: string): JobKind {
  const conditions = expectSweep(store), { runDigest } = store, race = store.get("race");
  return {
    text,
    findWrong: (result, { digest, options }) =>
      findWrongResult(result as StoredRecord, findTask(conditions.task), {
        ...{ digest, options, conditions, runDigest },
      }) ??
        ("stopped" in Object(result) && race === undefined ? "it was stopped, and no race is" : undefined),
    take: (result) => void store.take(finishedTrials([result as StoredRecord])),
  };
}

/**
 * Puts all waiting trials of a sweep into a queue. If each trial is proposed from earlier results, it puts in as many
 * as there are workers. Until it is disposed of, it stores their results; it takes a result only if the result belongs
 * to the trial that was asked for. Jobs of other sweeps stay untouched. Trials that the server loses are put in again.
 * After the end of the budget, waiting trials are taken back.
 *
 * @param source The sweep's trials, as this process would take them; from now on it gives none to this process.
 * @param kind The content of their jobs and results.
 * @param signal Ends the submission.
 * @returns The study as it fills.
 * @throws {UsageError} If the server cannot be reached.
 */
export async function submitTrials(
  store: StudyStore,
  source: StudyTrials,
  kind: JobKind,
  connections: Connections,
  progress: Progress,
  signal: AbortSignal,
): Promise<AsyncDisposable & { readonly source: TrialSource }> {
  const redis = connections.connect(), { prefix } = connections.address;
  const { runDigest: study, flags, conditions } = store, { text, recipe } = kind;
  const sweep = store.get("queued") ?? crypto.randomUUID(), race = store.get("race");
  store.set("queued", sweep);
  const queue: TrialQueue = new Queue(QUEUE_NAME, { connection: redis, prefix });
  const events = new QueueEvents(QUEUE_NAME, { connection: connections.connect(), prefix });
  const ignore = () => {}; // `gone` reports it
  queue.on("error", ignore);
  events.on("error", ignore);
  const described: QueuedStudy = {
    ...{ conditions, flags, codeSha256: await digestCode() },
    ...(recipe !== undefined && { recipe }),
  };
  const keptText = text === undefined ? [] : [[textKey(prefix, await sha256(text)), text] as const];
  const keys = [studyKey(prefix, study), ...keptText.map(([key]) => key)], units = unitsKey(prefix, sweep);
  const idOf = (digest: string) => jobId(sweep, digest);
  const digestOf = (id: string) =>
    id.startsWith(idOf("")) ? decodeURIComponent(id.slice(idOf("").length)) : undefined;
  const dataOf = (trial: ProposedTrial) => jobOf(trial, { sweep, study, race });
  /** Describes the study of the trials, and in a race the trials that have ended. */
  const describe = async () => {
    await redis.set(studyKey(prefix, study), JSON.stringify(described), "EX", KEEP_S);
    for (const [key, text] of keptText) await redis.set(key, text, "EX", KEEP_S);
    if (race === undefined) return;
    await redis.del(endedKey(prefix, sweep));
    await tellOthers(store.results<StoredRecord>().map(({ record }) => record));
  };
  const tellOthers = async (records: readonly JobResult[]) => {
    const key = endedKey(prefix, sweep);
    for (let at = 0; race !== undefined && at < records.length; at += BATCH) {
      await redis.rpush(key, ...records.slice(at, at + BATCH).map((record) => JSON.stringify(record)));
      await redis.expire(key, KEEP_S);
    }
  };
  /** Puts trials into the queue; trials that are there already stay unchanged. */
  const submit = async (trials: readonly ProposedTrial[]) => {
    for (let at = 0; at < trials.length; at += BATCH) {
      await queue.addBulk(
        trials.slice(at, at + BATCH).map((trial) => ({
          name: "trial",
          data: dataOf(trial),
          opts: {
            jobId: idOf(trial.digest),
            attempts: ATTEMPTS,
            backoff: { type: "exponential", delay: BACKOFF_MS },
          },
        })),
      );
    }
  };
  // The study counts those in a queue as waiting.
  const submitOpen = () => submit(store.trials().filter(({ state }) => state === "waiting"));
  await connections.orGone(describe().then(submitOpen), signal);

  const said = new Set<string>();
  events.on("progress", ({ jobId: id, data }) => {
    const { owner, refused } = Object(data) as Partial<JobProgress>, digest = digestOf(id);
    if (digest === undefined || typeof owner !== "string") return;
    if (typeof refused !== "string") return store.see(owner.slice(0, SAID), digest);
    const why = refused.slice(0, SAID);
    if (!said.has(why)) progress.line(`A worker refuses these trials: ${why}`);
    said.add(why);
  });

  events.on("stalled", ({ jobId: id }) => {
    const digest = digestOf(id);
    if (digest !== undefined) progress.line(`A worker has ended at trial ${digest}, which is offered again`);
  });

  /** The fault in a job's result; undefined if it is the trial that was asked for. */
  const findWrong = (
    job: Job<TrialJob, JobResult> | undefined,
    trial: StoredTrial,
    hasFailed: boolean,
  ) => {
    if (job === undefined) return "its job cannot be read";
    if (hasFailed) {
      return JSON.stringify(job.data) === JSON.stringify(dataOf(trial)) ? undefined : "its job was changed";
    }
    return kind.findWrong(job.returnvalue, trial);
  };
  /** Removes a job, even an incomplete one. */
  const discard = async (id: string) => {
    await queue.remove(id).catch(ignore);
    const all = redis.multi().del(queue.toKey(id));
    for (const list of ["wait", "active"]) all.lrem(queue.toKey(list), 0, id);
    for (const set of ["delayed", "prioritized", "completed", "failed"]) all.zrem(queue.toKey(set), id);
    await all.exec();
  };
  const refused = new Map<string, number>();
  const refuse = async ({ digest, options }: StoredTrial, wrong: string) => {
    const times = (refused.get(digest) ?? 0) + 1, isLast = times === ATTEMPTS;
    refused.set(digest, times);
    const then = isLast ? "the trial has failed" : "the trial is offered again";
    progress.line(`Refuses a result of trial ${digest} from the queue: ${wrong}; ${then}`);
    await discard(idOf(digest));
    if (isLast) store.close(digest, `its results were refused ${ATTEMPTS} times, at last since ${wrong}`);
    else await submit([{ digest, options }]);
  };
  /** A job; undefined where others have written an invalid one. */
  const readJob = async (id: string) => {
    try {
      return await queue.getJob(id);
    } catch (error) {
      if (!(error instanceof SyntaxError) && (error as Error).name !== "ReplyError") throw error;
      return undefined;
    }
  };
  /** Takes what workers have finished before their results; the queue keeps it until the study has it on disk. */
  const takeUnits = async () => {
    for (let taken = kind.takeUnits === undefined ? 0 : UNITS; taken === UNITS;) {
      const rows = await redis.lrange(units, 0, UNITS - 1);
      for (const wrong of kind.takeUnits!(rows)) progress.line(`Refuses a chunk from the queue: ${wrong}`);
      if (rows.length > 0) await redis.ltrim(units, rows.length, -1);
      taken = rows.length;
    }
  };
  const takeEnded = async (state: "completed" | "failed") => {
    const ids = await queue.getRanges([state], 0, -1);
    await takeUnits(); // of these, at least: a worker sends them first
    for (const id of ids) {
      const digest = digestOf(id), trial = digest === undefined ? undefined : store.find(digest);
      if (trial === undefined) continue;
      if (trial.state === "waiting") {
        const job = await readJob(id), wrong = findWrong(job, trial, state === "failed");
        if (wrong !== undefined) {
          await refuse(trial, wrong);
          continue;
        }
        if (state === "failed") store.close(trial.digest, String(job!.failedReason).slice(0, SAID));
        else {
          kind.take(job!.returnvalue, trial);
          await tellOthers([job!.returnvalue]);
        }
      }
      await discard(id); // only now: the queue keeps a result until the study has it on disk
    }
  };
  /** Puts in again the trials that are missing or changed: a server has lost its data, or others have written to it. */
  const restore = async () => {
    const open = store.trials().filter(({ state }) => state === "waiting");
    const listed = new Set(await queue.getRanges([...STATES], 0, -1)), lost: StoredTrial[] = [];
    for (let at = 0; at < open.length; at += BATCH) {
      const part = open.slice(at, at + BATCH), asked = redis.pipeline();
      for (const { digest } of part) asked.hget(queue.toKey(idOf(digest)), "data");
      const found = (await asked.exec())!;
      lost.push(
        ...part.filter((trial, i) =>
          found[i]![1] !== JSON.stringify(dataOf(trial)) || !listed.has(idOf(trial.digest))
        ),
      );
    }
    const known = await redis.exists(...keys);
    if (open.length === 0 || lost.length === 0 && known === keys.length) return;
    progress.line(`The queue has lost ${plural(lost.length, "trial")}: what is missing is put there again`);
    await describe();
    for (const { digest } of lost) await discard(idOf(digest));
    await submit(lost);
  };
  const proposeMore = async () => {
    if (store.get("search") === undefined) return;
    const workers = Math.max(1, await queue.getWorkersCount());
    let isNew = false;
    while (store.count().waiting < workers && source.propose()) isNew = true;
    if (isNew) await submitOpen();
  };
  /** Jobs that have not ended once the budget is over. */
  let left: readonly string[] | undefined;
  const takeBack = async () => {
    left ??= store.digests("waiting").map(idOf);
    const states = await Promise.all(left.map((id) => queue.getJobState(id)));
    const idle = left.filter((_, i) => states[i] === "waiting" || states[i] === "delayed");
    await Promise.all(idle.map((id) => queue.remove(id)));
    left = left.filter((_, i) => states[i] !== "unknown");
  };
  let isClosed = false, failure: unknown, restoreAt = performance.now() + RESTORE_MS;
  const look = async () => {
    while (!isClosed) {
      await takeEnded("completed");
      await takeEnded("failed");
      if (source.ranOut()) await takeBack();
      else {
        await proposeMore();
        const now = performance.now();
        if (now > restoreAt) {
          await restore();
          restoreAt = performance.now() + Math.max(RESTORE_MS, RESTORE_SHARE * (performance.now() - now));
        }
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  const isOver = source.isOver.bind(source);
  const looking = Promise.race([look(), connections.gone]).catch((error) =>
    failure = connections.explain(error)
  );
  return {
    source: Object.assign(source, {
      take: () => undefined,
      isOver() {
        if (failure !== undefined) throw failure;
        return isOver() || left?.length === 0;
      },
    }),
    async [Symbol.asyncDispose]() {
      isClosed = true;
      await endsWithin(CLOSE_MS, looking);
    },
  };
}
