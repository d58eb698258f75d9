/** Workers that are killed while they work on a study, for tests. */
import { StudyStore, type Trial } from "../../../lib/sweep/mod.ts";
import { finish, runTask, spawnTask } from "../testing.ts";

/** The result of a trial without its times. */
export function untimed({ timeMs: _, denseTimeMs: __, finishedAt: ___, ...trial }: Trial): object {
  return trial;
}

/** Results of a study by trial; each is there once, or this throws. */
export function readResults(path: string): Map<string, object> {
  using store = StudyStore.open(path);
  const results = store.results(),
    byTrial = new Map(results.map(({ record }) => [record.trial, untimed(record)]));
  if (byTrial.size !== results.length) throw new Error(`${results.length} results of ${byTrial.size} trials`);
  return byTrial;
}

/** Trials of a folder's study, in the order in which they ended; none where there is no study yet. */
export function readTrials(folder: string): Trial[] {
  try {
    using store = StudyStore.open(`${folder}/study.db`);
    return store.results().map(({ record }) => record);
  } catch {
    return [];
  }
}

/** An undisturbed sweep, and a study of the same trials of which none is run. */
export async function prepareStudy(folder: string, args: readonly string[]): Promise<string> {
  const { code, stderr } = await runTask("sweep", ...args, "--out", `${folder}/whole`, "--quiet");
  if (code !== 0) throw new Error(stderr);
  using whole = StudyStore.open(`${folder}/whole/study.db`);
  const path = `${folder}/killed.db`;
  using store = StudyStore.create(path, whole.facts);
  store.add(whole.trials());
  return path;
}

/**
 * A study whose trials workers propose themselves, of which one is run.
 *
 * @param args The flags of the search.
 * @returns Its path.
 */
export async function prepareSearch(folder: string, args: readonly string[]): Promise<string> {
  const search = [...args, "--time", "0.001s", "--out", `${folder}/search`, "--quiet"];
  const { code, stderr } = await runTask("sweep", ...search);
  if (code !== 0) throw new Error(stderr);
  return `${folder}/search/study.db`;
}

/** Runs the trials of a study once more, as a list, by one undisturbed worker. @returns The new study's path. */
export async function repeatTrials(folder: string, path: string): Promise<string> {
  const repeated = `${folder}/repeated.db`;
  {
    using study = StudyStore.open(path);
    using store = StudyStore.create(repeated, study.facts);
    store.add(study.trials());
  }
  const { code, stderr } = await runTask("worker", "--study", repeated, "--threads", "1", "--quiet");
  if (code !== 0) throw new Error(stderr);
  return repeated;
}

/** How workers are killed. */
export interface Killing {
  readonly workers: number;
  /** How often each is killed. */
  readonly kills: number;
  /** Longest life of a worker, in ms. */
  readonly mostMs: number;
  /** Whether a life is counted from the next end of any trial, which suits machines of any speed. */
  readonly atWork?: boolean;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly onKill?: () => void;
}

/** Runs workers that are killed at random and started again, then lets them end. @returns How many were killed. */
export async function runKilled(
  path: string,
  { workers, kills, mostMs, atWork, random, onKill }: Killing,
): Promise<number> {
  let killed = 0;
  using store = StudyStore.open(path);
  const start = () => spawnTask("worker", ["--study", path, "--threads", "1", "--quiet"]);
  await Promise.all(Array.from({ length: workers }, async () => {
    for (let left = kills; left > 0; left--) {
      const before = store.count().complete, child = await start(), ended = finish(child);
      let hasEnded = false;
      void ended.then(() => hasEnded = true);
      while (atWork && !hasEnded && store.count().complete === before) await delay(5);
      await new Promise((resolve) => setTimeout(resolve, mostMs * random()));
      try {
        child.kill("SIGKILL");
      } catch {
        break; // the study is done
      }
      await ended;
      killed++;
      onKill?.();
    }
    const { code, stderr } = await finish(await start());
    if (code !== 0) throw new Error(stderr);
  }));
  return killed;
}

/** Waits. */
export const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
