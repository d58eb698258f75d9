/** Files that a user names: read and written with one-line errors. */
import { UsageError } from "../../../lib/errors.ts";
import { MOST_TEXT_BYTES, readPlainFile } from "../../../lib/files.ts";

/** The reason why a file could not be used, in words. */
function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file or folder";
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return "permission denied";
  }
  if (error instanceof Deno.errors.NotADirectory) return "a part of the path is a file";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  return error instanceof Error ? error.message.replace(/ \(os error \d+\).*/, "") : String(error);
}

/** The bytes of a file. @throws {UsageError} If it cannot be read, or is longer than `most` bytes. */
export async function readBytes(path: string, most?: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await readPlainFile(path, most);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`Cannot read "${path}": ${reason(error)}`);
  }
}

/** The text of a file. @throws {UsageError} If it cannot be read or is not UTF-8. */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path, MOST_TEXT_BYTES);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(`Cannot read "${path}": found bytes that are not UTF-8, expected a text`);
  }
}

/** The value of a JSON file. @throws {UsageError} If it cannot be read or is not JSON. */
export async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`Cannot read "${path}": it is not JSON: ${(error as Error).message}`);
  }
}

/** The value of a text; undefined where the text is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function exists(path: string | URL): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * Checks that a folder can be written to, or made, and leaves no trace.
 *
 * @throws {UsageError} If it cannot.
 */
export function expectWritable(folder: string): void {
  const parts = folder.replace(/(?<=.)\/+$/, "");
  let place = parts === "" ? "." : parts;
  try {
    while (!exists(place)) {
      const parent = place.replace(/\/?[^/]+$/, "");
      place = parent === "" ? (place.startsWith("/") ? "/" : ".") : parent;
    }
    Deno.removeSync(Deno.makeTempFileSync({ dir: place, prefix: ".tokenfilter-" }));
  } catch (error) {
    throw new UsageError(`Cannot write to "${folder}": ${reason(error)} (choose another --out)`);
  }
}

/** Checks that a file can be written. @throws {UsageError} If it is a folder, or its folder is not there. */
export function expectWritableFile(path: string): void {
  const folder = path.includes("/") ? path.replace(/\/[^/]*$/, "") || "/" : ".";
  if (path.endsWith("/") || isFolder(path) || !isFolder(folder)) {
    throw new UsageError(`Cannot write "${path}": expected a file in a folder that is there`);
  }
  expectWritable(folder);
}

export function isFolder(path: string): boolean {
  return exists(path) && Deno.statSync(path).isDirectory;
}

/** Makes a folder and those above it. @throws {UsageError} If it cannot. */
export function makeFolder(folder: string): void {
  try {
    Deno.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new UsageError(`Cannot make folder "${folder}": ${reason(error)} (choose another --out)`);
  }
}

/**
 * Locks a folder for this process, by a hidden file that is removed when the lock is disposed of. A process that is killed
 * lets go of the lock, and leaves the file.
 *
 * @throws {UsageError} If another process, or another part of this one, has locked it.
 */
export function lockFolder(folder: string): Disposable {
  const path = `${folder}/.lock`;
  for (;;) {
    const file = Deno.openSync(path, { write: true, create: true });
    if (!file.tryLockSync(true)) {
      file.close();
      throw new UsageError(
        `Cannot write to "${folder}": another run is at work there (wait for its end, or take another --out)`,
      );
    }
    if (isAt(path, file)) {
      return {
        [Symbol.dispose]: () => {
          if (isAt(path, file)) Deno.removeSync(path);
          file.close();
        },
      };
    }
    // The file may have been removed before it was locked: a lock on a removed file excludes no other process.
    file.close();
  }
}

/** Whether a path leads to an open file. */
function isAt(path: string, file: Deno.FsFile): boolean {
  if (!exists(path)) return false;
  const { dev, ino } = Deno.statSync(path), open = file.statSync();
  return dev === open.dev && ino === open.ino;
}

/** Writes a file that is there as a whole or not at all. @throws {UsageError} If it cannot be written. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const part = `${path}.part`;
  try {
    if (typeof content === "string") await Deno.writeTextFile(part, content);
    else await Deno.writeFile(part, content);
    await Deno.rename(part, path);
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw new UsageError(`Cannot write "${path}": ${reason(error)}`, { cause: error });
  }
}

/**
 * Loads a module of the user and returns its exports.
 *
 * @param digest SHA-256 of the module's content: a changed module is loaded again.
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

/** The files that a flag names: one, or several with commas between them. */
export function listPaths(text: string | undefined): readonly string[] {
  if (text === undefined) return [];
  return exists(text) ? [text] : text.split(",").map((path) => path.trim());
}
