/** Zip files: written whole, and read with every name, size and checksum checked. */
import { configure, Uint8ArrayReader, Uint8ArrayWriter, ZipReader, ZipWriter } from "@zip.js/zip.js";
import { UsageError } from "../../../lib/errors.ts";
import { readBytes, writeWhole } from "../cli/files.ts";

// A worker's code is a file of its own, which the permissions of a command may not cover.
configure({ useWebWorkers: false });

/** Files by their names in a zip file. */
export type Files = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** Most bytes of all unpacked files together. */
const MOST_BYTES = 2 ** 31;

/** Writes files as a zip file that is there as a whole or not at all. @throws {UsageError} If it cannot be written. */
export async function writeZip(path: string, files: Files): Promise<void> {
  const zip = new ZipWriter(new Uint8ArrayWriter());
  for (const [name, bytes] of files) await zip.add(name, new Uint8ArrayReader(bytes));
  await writeWhole(path, await zip.close());
}

/** Reads a zip file. @throws {UsageError} If it is damaged, too large, or a name leads out of its folder. */
export async function readZip(path: string): Promise<Files> {
  const refuse = (found: string) =>
    new UsageError(`Cannot read "${path}": found ${found}, expected what --bundle writes`);
  const bytes = await readBytes(path), files = new Map<string, Uint8Array<ArrayBuffer>>();
  const zip = new ZipReader(new Uint8ArrayReader(bytes), { strictness: "strict", checkCrc32: true });
  try {
    const entries = await zip.getEntries();
    const size = entries.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
    if (size > MOST_BYTES) throw refuse(`${size} bytes of files`);
    for (const entry of entries) {
      if (entry.directory) continue;
      files.set(entry.filename, await entry.getData(new Uint8ArrayWriter()));
    }
    return files;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { message, filename } = error as Error & { readonly filename?: string };
    throw refuse(filename === undefined ? `a damaged zip file (${message})` : `the file name "${filename}"`);
  }
}
