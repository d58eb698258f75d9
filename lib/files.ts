/** Files that are read whole: none that has no end, and none that would not fit; and files of the package. */
import { UsageError } from "./errors.ts";

/** Bytes of a file that is read whole; of a text fewer, since JavaScript holds half a billion characters. */
const MOST_BYTES = 2 ** 31;
export const MOST_TEXT_BYTES = 2 ** 28;

/**
 * Checks the kind of a path before it is opened: opening a pipe waits for its writer, and a device may have no end.
 *
 * @throws {UsageError} If it is neither a file nor a folder, or longer than `most` bytes.
 */
export async function expectPlainFile(path: string, most = Infinity): Promise<void> {
  const { isFile, isDirectory, size } = await Deno.stat(path);
  if (!isFile && !isDirectory) {
    throw new UsageError(`Cannot read "${path}": found a pipe or a device, expected a file`);
  }
  if (isFile && size > most) {
    throw new UsageError(`Cannot read "${path}": found ${size} bytes, expected at most ${most}`);
  }
}

/** The bytes of a file. @throws {UsageError} As {@linkcode expectPlainFile}. */
export async function readPlainFile(path: string, most = MOST_BYTES): Promise<Uint8Array<ArrayBuffer>> {
  await expectPlainFile(path, most);
  return await Deno.readFile(path);
}

/** The text of a file. @throws {UsageError} As {@linkcode expectPlainFile}. */
export async function readPlainText(path: string): Promise<string> {
  await expectPlainFile(path, MOST_TEXT_BYTES);
  return await Deno.readTextFile(path);
}

/** The part of Node that reads files, also in Deno and Bun; browsers have none. */
interface Process {
  getBuiltinModule?(name: "node:fs/promises"): { readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> };
}

/** The bytes of a file next to the code, on a disk or on a server. @throws {Error} If it cannot be read. */
export async function readOwnFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { process } = globalThis as { process?: Process };
  const files = url.protocol === "file:" ? process?.getBuiltinModule?.("node:fs/promises") : undefined;
  if (files !== undefined) return await files.readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`found HTTP status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
