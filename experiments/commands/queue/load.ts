/** The queue's modules, loaded where a queue is asked for: their clients take as much memory as all other code. */
import { UsageError } from "../../../lib/errors.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { readCount } from "../cli/flags/text.ts";
import type { QueueAddress } from "./connection.ts";

/**
 * Loads one of them. Deno downloads the targets of literal imports before a program starts. An address that is made at
 * run time delays the download of the clients.
 */
const load = (file: string) => import(new URL(file, import.meta.url).href);

export const loadConnection = (): Promise<typeof import("./connection.ts")> => load("connection.ts");
export const loadSubmit = (): Promise<typeof import("./submit.ts")> => load("submit.ts");
export const loadWork = (): Promise<typeof import("./work.ts")> => load("work.ts");

/** Where trials are to be run, if not here. @throws {UsageError} If there is no such place. */
export async function readQueue(values: FlagValues): Promise<QueueAddress | undefined> {
  const url = textOf(values, "queue");
  if (url === undefined) {
    const flag = ["queue-prefix", "queue-password-file", "patience"].find((name) => values.has(name));
    if (flag !== undefined) throw new UsageError(`Cannot use --${flag} without --queue`);
    return undefined;
  }
  if (values.has("jobs")) {
    throw new UsageError("Cannot use --jobs with --queue: start deno task worker --queue there");
  }
  const { readAddress } = await loadConnection();
  return await readAddress(url, {
    prefix: textOf(values, "queue-prefix"),
    patienceS: readCount(values, "patience", 1),
    passwordFile: textOf(values, "queue-password-file"),
  });
}
