/** Modules of the user's own. */
import { UsageError } from "../../../lib/errors.ts";

/**
 * What a module of the user's own exports.
 *
 * @param digest Of its content: another one is loaded anew.
 * @throws {UsageError} If it cannot be run.
 */
export async function importFile(
  path: string,
  digest: string,
): Promise<{ readonly [name: string]: unknown }> {
  try {
    return await import(`file://${encodeURI(await Deno.realPath(path))}?${digest}`);
  } catch (error) {
    const [line] = (error as Error).message.split("\n");
    throw new UsageError(`Cannot run "${path}": ${line}`);
  }
}
