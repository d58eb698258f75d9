/** Where a task's results go. */
import { makeFolder } from "../files.ts";

/**
 * Makes a folder whose name is the time: `results/2026-01-02T03-04-05`, or `…-2` if another run began in the same
 * second.
 *
 * @throws {UsageError} If its parent folder cannot be made.
 */
export function makeResultsFolder(parent = RESULTS, now: Date = new Date()): string {
  makeFolder(parent);
  const name = `${parent}/${now.toISOString().slice(0, 19).replaceAll(":", "-")}`;
  for (let folder = name, count = 2;; folder = `${name}-${count++}`) {
    try {
      Deno.mkdirSync(folder);
      return folder;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
}

/** Parent of the results' folder, if no flag names a folder. */
export const RESULTS = "results";

/** The file of a study in its folder of results. */
export const STUDY_FILE = "study.db";
