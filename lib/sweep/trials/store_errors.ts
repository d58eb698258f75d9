/** Messages for SQLite's errors about a study's file, in words that name the file and the fix. */
import { PlaceLostError, UsageError } from "../../errors.ts";

/** SQLite's error for a file that may be available again later. */
export const LOCKED = /database (table )?is locked/;

/** SQLite's other errors, and their meaning for a user. */
const REASONS: readonly (readonly [said: RegExp, means: string])[] = [
  [/file is not a database/, "it is no study's file"],
  [/unable to open database file/, "the file or its folder cannot be read or written"],
  [/readonly database/, "the file cannot be written to"],
];

/** SQLite's words for a disk that takes no more, and for one that fails, a full one among them. */
const FULL = /database or disk is full/, FAILED = /disk I\/O error/;

/** Bytes that a study grows by at once, at most: those of its index of changes. */
const STEP_BYTES = 2 ** 15;

/** Whether a folder takes no more bytes. */
function isFull(folder: string): boolean {
  let path: string | undefined;
  try {
    path = Deno.makeTempFileSync({ dir: folder, prefix: ".tokenfilter-" });
    Deno.writeFileSync(path, new Uint8Array(STEP_BYTES));
    return false;
  } catch (error) {
    return (error as { readonly code?: unknown }).code === "ENOSPC";
  } finally {
    if (path !== undefined) Deno.removeSync(path);
  }
}

/** The error for a damaged study. @param what Which part of it, and how that shows */
export function damagedStudy(path: string, what: string, cause?: unknown): UsageError {
  const fix = "deno task study repair takes what is sound into another one";
  return new UsageError(`Cannot use study "${path}": the file is damaged, ${what} (${fix})`, { cause });
}

/** An error of the store as a user is to read it; others as they are. */
export function explainStoreError(path: string, error: unknown): unknown {
  if ((error as { readonly code?: unknown } | null)?.code !== "ERR_SQLITE_ERROR") return error;
  const { message } = error as Error;
  if (FULL.test(message) || FAILED.test(message) && isFull(path.replace(/[^/]*$/, "") || ".")) {
    return new PlaceLostError(
      `Cannot write to study "${path}": found no space left on the device (make room)`,
    );
  }
  if (LOCKED.test(message)) {
    return new PlaceLostError(
      `Cannot use study "${path}": another process has locked it (wait for its end, or end it)`,
    );
  }
  if (FAILED.test(message)) {
    return new PlaceLostError(
      `Cannot use study "${path}": its disk fails, or it is no plain file (${message})`,
    );
  }
  const reason = REASONS.find(([said]) => said.test(message))?.[1];
  return reason === undefined
    ? damagedStudy(path, message, error)
    : new UsageError(`Cannot use study "${path}": ${reason}`, { cause: error });
}
