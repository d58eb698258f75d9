/** `sweep --queue`: trials go to a queue, and results come from it into the study. */
import { type Job, Queue, QueueEvents } from "bullmq";
import {
  finishedTrials,
  type StoredRecord,
  type StudyStore,
  type TrialSource,
  type withBudget,
} from "../../../lib/sweep/mod.ts";
import { digestCode } from "../cli/machine/code_digest.ts";
import type { Progress } from "../cli/output/progress.ts";
import { expectSweep } from "../cli/run/study_store.ts";
import {
  Connections,
  endedKey,
  type JobProgress,
  KEEP_S,
  QUEUE_NAME,
  type QueueAddress,
  type QueuedStudy,
  studyKey,
  textKey,
  type TrialJob,
} from "./connection.ts";

/** Jobs that go to the server at once. */
const BATCH = 1000;

/** Milliseconds between two looks at what has ended. */
const POLL_MS = 200;

/** How often a trial is tried, and the wait before the second time, which doubles from then on. */
const ATTEMPTS = 5, BACKOFF_MS = 1000;

/** What a job is called: one for each trial of a sweep, however often it is submitted. */
const jobId = (sweep: string, digest: string) => `${sweep}-${digest}`;

interface QueuedTrials extends AsyncDisposable {
  /** The study as it fills. */
  readonly source: TrialSource;
}

/**
 * Puts all trials of a sweep that wait into a queue, or as many as there are workers where each is proposed by what came
 * before, and takes in what comes of them until it is disposed of. Once the budget is over it takes back what waits.
 *
 * @param source The sweep's trials, as this process would take them.
 * @param text What they read.
 * @throws {UsageError} If the server cannot be reached.
 */
export async function submitTrials(
  store: StudyStore,
  source: ReturnType<typeof withBudget>,
  text: string,
  address: QueueAddress,
  progress: Progress,
): Promise<QueuedTrials> {
  const connections = await Connections.open(address), redis = connections.connect(), { prefix } = address;
  const conditions = expectSweep(store), { runDigest: study, flags } = store, { textSha256 } = conditions;
  const sweep = store.get("queued") ?? crypto.randomUUID(), race = store.get("race");
  store.set("queued", sweep);
  const queue = new Queue<TrialJob, StoredRecord>(QUEUE_NAME, { connection: redis, prefix });
  const events = new QueueEvents(QUEUE_NAME, { connection: connections.connect(), prefix });
  const ignore = () => {}; // `gone` tells
  queue.on("error", ignore);
  events.on("error", ignore);
  const described: QueuedStudy = { conditions, flags, codeSha256: await digestCode() };
  await redis.set(studyKey(prefix, study), JSON.stringify(described), "EX", KEEP_S);
  await redis.set(textKey(prefix, textSha256), text, "EX", KEEP_S);
  const tellRivals = async (records: readonly StoredRecord[]) => {
    const key = endedKey(prefix, sweep);
    for (let at = 0; race !== undefined && at < records.length; at += BATCH) {
      await redis.rpush(key, ...records.slice(at, at + BATCH).map((record) => JSON.stringify(record)));
      await redis.expire(key, KEEP_S);
    }
  };
  await redis.del(endedKey(prefix, sweep));
  await tellRivals(store.results<StoredRecord>().map(({ record }) => record));
  const submitOpen = () => submit(queue, store, { sweep, study, ...(race && { race }) });
  await submitOpen();

  const said = new Set<string>();
  events.on("progress", ({ jobId: id, data }) => {
    const { owner, refused } = data as unknown as JobProgress;
    if (!id.startsWith(jobId(sweep, ""))) return;
    if (refused === undefined) store.see(owner, id.slice(jobId(sweep, "").length));
    else if (!said.has(refused)) progress.line(`A worker refuses these trials: ${refused}`);
    said.add(refused ?? "");
  });
  const isOurs = (job: Job<TrialJob> | undefined): job is Job<TrialJob, StoredRecord> =>
    job?.data.sweep === sweep;
  const proposeMore = async () => {
    if (store.get("search") === undefined) return;
    const workers = Math.max(1, await queue.getWorkersCount());
    let isNew = false;
    while (store.count().waiting < workers && await source.propose()) isNew = true;
    if (isNew) await submitOpen();
  };
  /** Jobs that have not ended once the budget is over. */
  let left: readonly string[] | undefined;
  const takeBack = async () => {
    left ??= waiting(store).map(({ digest }) => jobId(sweep, digest));
    const states = await Promise.all(left.map((id) => queue.getJobState(id)));
    const idle = left.filter((_, i) => states[i] === "waiting" || states[i] === "delayed");
    await Promise.all(idle.map((id) => queue.remove(id)));
    left = left.filter((_, i) => states[i] !== "unknown");
  };
  let isClosed = false, failure: unknown;
  const look = async () => {
    while (!isClosed) {
      for (const job of (await queue.getJobs(["completed"], 0, BATCH - 1)).filter(isOurs)) {
        store.take(finishedTrials([job.returnvalue]));
        await tellRivals([job.returnvalue]);
        await job.remove(); // only now: what a queue has given stays until it is on disk
      }
      for (const job of (await queue.getJobs(["failed"], 0, BATCH - 1)).filter(isOurs)) {
        store.close(job.data.digest, job.failedReason);
        await job.remove();
      }
      await (source.ranOut() ? takeBack() : proposeMore());
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  const looking = Promise.race([look(), connections.gone]).catch((error) => failure = error);
  return {
    source: {
      ...source,
      take: () => Promise.resolve(undefined),
      isOver() {
        if (failure !== undefined) throw failure;
        return source.isOver() || left?.length === 0;
      },
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      await looking;
      connections[Symbol.dispose]();
    },
  };
}

/** Trials that have not ended: the study counts those in a queue as waiting. */
const waiting = (store: StudyStore) => store.trials().filter(({ state }) => state === "waiting");

/** Puts what waits into the queue; what is there already stays as it is. */
async function submit(
  queue: Queue<TrialJob, StoredRecord>,
  store: StudyStore,
  shared: Omit<TrialJob, "digest" | "options">,
): Promise<void> {
  const open = waiting(store);
  for (let at = 0; at < open.length; at += BATCH) {
    await queue.addBulk(
      open.slice(at, at + BATCH).map(({ digest, options }) => ({
        name: "trial",
        data: { ...shared, digest, options },
        opts: {
          jobId: jobId(shared.sweep, digest),
          attempts: ATTEMPTS,
          backoff: { type: "exponential", delay: BACKOFF_MS },
        },
      })),
    );
  }
}
