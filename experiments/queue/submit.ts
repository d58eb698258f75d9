/** `sweep --queue`: trials go to a queue, and results come from it into the study. */
import { type Job, Queue, QueueEvents } from "bullmq";
import { finishedTrials, type StudyStore, type Trial, type TrialSource } from "../../lib/sweep/mod.ts";
import { digestCode } from "../cli/code_digest.ts";
import type { Progress } from "../cli/progress.ts";
import {
  Connections,
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

/** What a job is called: one for each trial of a study, however often it is submitted. */
const jobId = (study: string, digest: string) => `${study.slice(0, 24)}-${digest}`;

/** A study's trials in a queue. */
export interface QueuedTrials extends AsyncDisposable {
  /** The study as it fills. */
  readonly source: TrialSource;
}

/**
 * Puts all trials of a study that wait into a queue, and takes in what comes of them until it is disposed of.
 *
 * @param source The study's trials, as this process would take them.
 * @param text What they read.
 * @throws {UsageError} If the server cannot be reached.
 */
export async function submitTrials(
  store: StudyStore,
  source: TrialSource,
  text: string,
  address: QueueAddress,
  progress: Progress,
): Promise<QueuedTrials> {
  const connections = await Connections.open(address), redis = connections.connect(), { prefix } = address;
  const { conditions, runDigest: study, flags } = store, { textSha256 } = conditions;
  const queue = new Queue<TrialJob, Trial>(QUEUE_NAME, { connection: redis, prefix });
  const events = new QueueEvents(QUEUE_NAME, { connection: connections.connect(), prefix });
  const ignore = () => {}; // `gone` tells
  queue.on("error", ignore);
  events.on("error", ignore);
  const described: QueuedStudy = { conditions, flags, codeSha256: await digestCode() };
  await redis.set(studyKey(prefix, study), JSON.stringify(described), "EX", KEEP_S);
  await redis.set(textKey(prefix, textSha256), text, "EX", KEEP_S);
  await submit(queue, store, study);

  const said = new Set<string>();
  events.on("progress", ({ jobId: id, data }) => {
    const { owner, refused } = data as unknown as JobProgress;
    if (!id.startsWith(jobId(study, ""))) return;
    if (refused === undefined) store.see(owner, id.slice(jobId(study, "").length));
    else if (!said.has(refused)) progress.line(`A worker refuses these trials: ${refused}`);
    said.add(refused ?? "");
  });
  const isOurs = (job: Job<TrialJob> | undefined): job is Job<TrialJob, Trial> => job?.data.study === study;
  let isClosed = false, failure: unknown;
  const look = async () => {
    while (!isClosed) {
      for (const job of (await queue.getJobs(["completed"], 0, BATCH - 1)).filter(isOurs)) {
        store.take(finishedTrials([job.returnvalue]));
        await job.remove(); // only now: what a queue has given stays until it is on disk
      }
      for (const job of (await queue.getJobs(["failed"], 0, BATCH - 1)).filter(isOurs)) {
        store.close(job.data.digest, job.failedReason);
        await job.remove();
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  const looking = Promise.race([look(), connections.gone]).catch((error) => failure = error);
  return {
    source: {
      ...source,
      take: () => undefined,
      isOver() {
        if (failure !== undefined) throw failure;
        return source.isOver();
      },
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      await looking;
      connections[Symbol.dispose]();
    },
  };
}

/** Puts what waits into the queue; what is there already stays as it is. */
async function submit(queue: Queue<TrialJob, Trial>, store: StudyStore, study: string): Promise<void> {
  const open = store.trials().filter(({ state }) => state === "waiting");
  for (let at = 0; at < open.length; at += BATCH) {
    await queue.addBulk(
      open.slice(at, at + BATCH).map(({ digest, options }) => ({
        name: "trial",
        data: { study, digest, options },
        opts: {
          jobId: jobId(study, digest),
          attempts: ATTEMPTS,
          backoff: { type: "exponential", delay: BACKOFF_MS },
        },
      })),
    );
  }
}
