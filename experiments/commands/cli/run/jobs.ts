/** `--jobs N`: further processes that work on a study of this one. */
import type { StudyStore } from "../../../../lib/sweep/trials/store.ts";
import type { HeldTrial } from "../../../../lib/sweep/trials/store_records.ts";
import { UsageError } from "../../../../lib/errors.ts";
import { formatBytes } from "../machine/model.ts";
import { taskArguments } from "../machine/deno.ts";
import type { FlagValues } from "../flags/parse.ts";
import { readCount } from "../flags/text.ts";
import type { Progress } from "../output/progress.ts";
import type { Permission } from "../task.ts";
import { ownPlace } from "./study_store.ts";

/** Most processes that may be asked for. */
const MAX_JOBS = 256;

/** A worker that ends this many times in a row without a finished trial is not replaced. */
const MAX_FAILURES = 3;

const ROOT = new URL("../../../../", import.meta.url);

/** Models of at most this size use several processes: a second thread would mostly wait in their short products. */
const SMALL_MODEL_BYTES = 32e6;

/** Trials per process, at least, unless `--jobs` is given: each process reads the model again. */
const TRIALS_A_JOB = 8;

/** The value of `--jobs`, if it is given. @throws {UsageError} If it is too low or too high. */
export const readJobs = (values: FlagValues): number | undefined => readCount(values, "jobs", 1, MAX_JOBS);

/** Default number of processes for a number of trials of a model. */
export function jobsFor(trials: number, weightBytes: number, cores = navigator.hardwareConcurrency): number {
  return weightBytes > SMALL_MODEL_BYTES
    ? 1
    : Math.max(1, Math.min(cores, Math.floor(trials / TRIALS_A_JOB)));
}

/**
 * The number of processes that fit into memory, each of which takes what this one takes beside the model's mapped file.
 *
 * @param jobs The number that is wanted.
 * @param isAsked Whether a user has named it; else fewer are taken.
 * @param own Bytes of this process, its model open, that others do not share.
 * @param free Bytes that are left.
 * @throws {UsageError} If the number that a user has named does not fit.
 */
export function fitJobs(jobs: number, isAsked: boolean, own: number, free: number): number {
  const most = 1 + Math.max(0, Math.floor(free / own));
  if (jobs <= most || !isAsked) return Math.min(jobs, most);
  const [more, each, left] = [(jobs - 1) * own, own, free].map(formatBytes);
  throw new UsageError(
    `Cannot run --jobs ${jobs}: the others need ${more}, ${each} each, ${left} are free; expected at most --jobs ${most}`,
  );
}

/** Threads of each process, if a number of processes divide the cores; undefined = all cores. */
export function threadsOf(jobs: number): number | undefined {
  return jobs === 1 ? undefined : Math.max(1, Math.floor(navigator.hardwareConcurrency / jobs));
}

/** Permissions that a run still needs once all is open: programs for its workers, the network for a queue or a page. */
export function neededPermissions(
  { jobs, connections, live }: {
    readonly jobs: number;
    readonly connections?: object;
    readonly live?: object;
  },
): Permission[] {
  ownPlace(); // a program tells it, once
  return [...jobs > 1 ? ["run"] as const : [], ...connections ?? live ? ["net"] as const : []];
}

interface WorkerOptions {
  /** Threads of each; undefined = all cores. */
  readonly threads: number | undefined;
  /** Whether no trial is left, neither waiting nor at work. */
  readonly isOver: () => boolean;
  readonly progress: Progress;
}

/**
 * Starts a number of workers. One that dies is replaced while there are trials left. At the end of the scope they give
 * back their trials, and end.
 */
export async function startWorkers(
  store: StudyStore,
  count: number,
  { threads, isOver, progress }: WorkerOptions,
): Promise<AsyncDisposable> {
  const args = [
    ...count === 0 ? [] : await taskArguments("worker"),
    "--study",
    store.path,
    "--attached",
    ...threads ? ["--threads", `${threads}`] : [],
  ];
  const children = new Set<Deno.ChildProcess>();
  let isStopped = false, failures = 0, endedBefore = 0;
  const watch = async (): Promise<void> => {
    while (!isStopped) {
      const child = new Deno.Command(Deno.execPath(), {
        args,
        cwd: ROOT,
        stdin: "piped", // closes as this process ends, however it does
        stdout: "null",
        stderr: "piped",
      }).spawn();
      children.add(child);
      const said = new Response(child.stderr).text();
      const { success } = await child.status;
      children.delete(child);
      if (success || isStopped) return;
      const { complete, pruned } = store.count();
      failures = complete + pruned > endedBefore ? 1 : failures + 1;
      endedBefore = complete + pruned;
      const line = (await said).trim().split("\n").at(-1);
      progress.line(`A worker has ended${line ? `: ${line}` : ""}`);
      if (isOver() || failures >= MAX_FAILURES) return;
    }
  };
  const watching = Array.from({ length: count }, watch);
  return {
    async [Symbol.asyncDispose]() {
      isStopped = true;
      children.forEach((child) => {
        try {
          child.kill("SIGTERM");
        } catch (error) {
          if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error; // has ended
        }
      });
      await Promise.all(watching);
    },
  };
}

/** Reports each such trial once. Its worker may compute a long chunk or have ended on another machine. */
export function tellSilence(progress: Progress): (held: readonly HeldTrial[]) => void {
  const told = new Set<string>();
  return (held) => {
    for (const { number, owner, untilMs } of held) {
      const key = `${number} ${owner}`;
      if (told.has(key)) continue;
      told.add(key);
      const until = new Date(untilMs).toISOString();
      progress.line(
        `Waits for trial ${number}: worker ${owner} gives no sign, and has it until ${until} ` +
          "(if it has ended, deno task study repair makes a study in which the trial waits)",
      );
    }
  };
}
