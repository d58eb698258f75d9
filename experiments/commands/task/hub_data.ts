/** Rows of tasks from the Hugging Face hub: Parquet and JSONL files of a pinned commit, kept in the cache of its own tools. */
import { parquetReadObjects } from "hyparquet";
import { type HubRows, ItemRow } from "../../../lib/eval/mod.ts";
import { type HubOptions, obtainDataset } from "../../../lib/model/mod.ts";
import { readPlainFile } from "../../../lib/files.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readParquet } from "../cli/parquet.ts";

interface HubData {
  /** Rows in the form of the task's own file. */
  readonly rows: ItemRow[];
  /** SHA-256 of all files, one after the other. */
  readonly sha256: string;
}

/**
 * Reads a task's rows, downloading its files where the cache has not got them.
 *
 * @throws {UsageError} As `obtainDataset`.
 * @throws {RangeError} If a file or a row is not as the task expects; the message names file and row.
 */
export async function readHubData(
  { name, hub }: { readonly name: string; readonly hub: HubRows },
  options: HubOptions,
): Promise<HubData> {
  const paths = await obtainDataset(hub.repository, hub.revision, hub.files, options);
  const rows: ItemRow[] = [], parts: Uint8Array<ArrayBuffer>[] = [];
  for (const [i, path] of paths.entries()) {
    const file = hub.files[i]!, bytes = await readPlainFile(path);
    parts.push(bytes);
    const records = await readRecords(bytes, file).catch(({ message }: Error) => {
      throw new RangeError(`Cannot read ${placeOf(hub, file)}: ${message}`);
    });
    for (const [row, fields] of records.entries()) {
      const place = `${placeOf(hub, file)}, row ${row + 1}`;
      rows.push(
        new ItemRow(place, { id: `${name}-${rows.length}`, ...hub.row(new ItemRow(place, fields), file) }),
      );
    }
  }
  return { rows, sha256: await sha256(new Uint8Array(await new Blob(parts).arrayBuffer())) };
}

const placeOf = ({ repository }: HubRows, file: string) => `"${repository}/${file}"`;

/** The records of a file; whole numbers as numbers. @throws {Error} If it is broken. */
async function readRecords(
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
): Promise<{ [name: string]: unknown }[]> {
  if (file.endsWith(".jsonl")) {
    const lines = new TextDecoder().decode(bytes).split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line));
  }
  const records = await readParquet(bytes, parquetReadObjects);
  const plain = (
    [name, value]: [string, unknown],
  ) => [name, typeof value === "bigint" ? Number(value) : value];
  return records.map((record) => Object.fromEntries(Object.entries(record).map(plain)));
}
