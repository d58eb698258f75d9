/** What SQLite says of a study's file, in words that name the file and the fix. */
import { PlaceLostError, UsageError } from "../../errors.ts";

/** What SQLite says of a file that may be had again later. */
const LOCKED = /database (table )?is locked/;

/** What else it says, and what that means for a user. */
const REASONS: readonly (readonly [said: RegExp, means: string])[] = [
  [/file is not a database/, "it is no study's file"],
  [/malformed|database corrupt/, "the file is damaged (take a copy of it, or begin another study)"],
  [/unable to open database file/, "the file or its folder cannot be read or written"],
  [/readonly database/, "the file cannot be written to"],
];

/** SQLite's words for a disk that takes no more. */
const FULL = /database or disk is full|disk I\/O error/;

/** An error of the store as a user is to read it; others as they are. */
export function explainStoreError(path: string, error: unknown): unknown {
  if ((error as { readonly code?: unknown } | null)?.code !== "ERR_SQLITE_ERROR") return error;
  const { message } = error as Error;
  if (FULL.test(message)) {
    return new PlaceLostError(
      `Cannot write to study "${path}": found no space left on the device (make room)`,
    );
  }
  if (LOCKED.test(message)) {
    return new PlaceLostError(
      `Cannot use study "${path}": another process has locked it (wait for its end, or end it)`,
    );
  }
  const reason = REASONS.find(([said]) => said.test(message))?.[1];
  return reason === undefined
    ? error
    : new UsageError(`Cannot use study "${path}": ${reason}`, { cause: error });
}
