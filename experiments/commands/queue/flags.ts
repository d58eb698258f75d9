/** `--queue` and the flags that belong to it. */
import { UsageError } from "../../../lib/errors.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { readCount } from "../cli/flags/text.ts";
import type { QueueAddress } from "./connection.ts";
import { loadConnection } from "./load.ts";

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
