/** The data of a task of items as a text: its JSONL file, rows of the hub, or the source of generated items. */
import { parquetReadObjects } from "hyparquet";
import { UsageError } from "../../../lib/errors.ts";
import { ItemRow, readItemRows } from "../../../lib/eval/items/item_rows.ts";
import type { HubRows, ItemData, ItemRows, MadeOf } from "../../../lib/eval/items/item_source.ts";
import type { Task } from "../../../lib/eval/task.ts";
import { ownTasks } from "../../../lib/eval/tasks/own_task.ts";
import { readPlainFile } from "../../../lib/files.ts";
import { obtainDataset } from "../../../lib/model/hub/repository.ts";
import type { HubOptions } from "../../../lib/model/hub/request.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readText } from "../cli/files.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { checkFlags } from "../cli/task.ts";
import { readCount } from "../cli/flags/text.ts";
import { readParquet } from "../cli/parquet.ts";

/** A task of items. */
export type ItemTask = Task & Required<Pick<Task, "items">>;

/** Its data. */
export interface TaskText extends ItemData {
  /** Its name in records. */
  readonly textName: string;
  /** Where it is from, as records of items have it. */
  readonly source: object;
  /** SHA-256 of its file or files, or of the source of generated items. */
  readonly sha256: string;
}

/** Most items that a task generates: all are made before the first is scored. */
const MAX_MADE = 100_000;

/** The value of `--data` for the hub's data. */
export const HUB = "hub";

/** Whether a task has items. */
export const hasItems = (task: Task): task is ItemTask => task.items !== undefined;

/** The file of a task whose items are read from one. */
export const fileOf = ({ items }: Task): string | undefined =>
  items !== undefined && "file" in items ? items.file : undefined;

/**
 * Reads the data of a task of items. Rows are checked, so that a broken one is reported before a model is obtained.
 *
 * @param path Its JSONL file, where one was named.
 * @throws {UsageError} If there is no such file, or a row is broken; by file and line.
 */
export async function readTaskText(values: FlagValues, task: ItemTask, path?: string): Promise<TaskText> {
  const count = readCount(values, "items", 1), { items } = task;
  if ("make" in items) {
    readCount(values, "items", 1, MAX_MADE);
    const source: MadeOf = {
      count: count ?? 50,
      tokens: readCount(values, "length", 1) ?? 256,
      seed: readCount(values, "data-seed", 0) ?? 0,
    };
    const text = path === undefined ? JSON.stringify(source) : await readText(path), name = "made items";
    return { name, textName: name, text, source, sha256: await sha256(text) };
  }
  const found = await readRows(values, task, items, path);
  checkFlags(() => items.read(readItemRows(found.name, found.text)));
  return { ...found, ...(count !== undefined && { count }) };
}

/** The rows of a task. */
async function readRows(
  values: FlagValues,
  task: ItemTask,
  items: ItemRows,
  path: string | undefined,
): Promise<TaskText> {
  const folder = textOf(values, "data");
  if (path === undefined && folder === HUB) return await readHubRows(task, items, values.has("offline"));
  const own = path ?? items.path ?? (folder === undefined ? undefined : `${folder}/${items.file}`);
  if (own === undefined) {
    throw new UsageError(
      `Cannot tell where the items of ${task.name} are: expected --data DIR, a folder with ${items.file}, or --data hub`,
    );
  }
  const text = await readText(own), textName = own.split(/[/\\]/).at(-1)!;
  return {
    name: own,
    textName,
    source: { file: textName },
    sha256: await sha256(text),
    text: ownTasks().some((own) => own.task === task) ? withIds(task.name, own, text) : text,
  };
}

async function readHubRows(task: ItemTask, { hub }: ItemRows, offline: boolean): Promise<TaskText> {
  if (hub === undefined) {
    throw new UsageError(`Cannot use --data ${HUB} for ${task.name}: found no data set of it there`);
  }
  const found = await readHubData({ name: task.name, hub }, offline ? { offline } : {}).catch((error) =>
    checkFlags(() => {
      throw error;
    })
  );
  const { repository, revision, files } = hub;
  return {
    name: repository,
    textName: repository,
    source: { repository, revision, files },
    sha256: found.sha256,
    text: found.rows.map((row) => `${JSON.stringify(row)}\n`).join(""),
  };
}

/**
 * Reads a task's rows, downloading its files where the cache has not got them.
 *
 * @returns Rows in the form of the task's own file, and SHA-256 of all files, one after the other.
 * @throws {UsageError} As `obtainDataset`.
 * @throws {RangeError} If a file or a row is not as the task expects; the message names file and row.
 */
export async function readHubData(
  { name, hub }: { readonly name: string; readonly hub: HubRows },
  options: HubOptions,
) {
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

/** Rows of a user's own file, JSONL or a JSON list, each with an `id`. @throws {UsageError} If it is neither. */
function withIds(task: string, path: string, text: string): string {
  const refuse = (what: string) => new UsageError(`Cannot read "${path}": ${what}`);
  const parse = (json: string, place: string) => {
    try {
      return JSON.parse(json);
    } catch (error) {
      throw refuse(`${place} is not JSON: ${(error as Error).message}`);
    }
  };
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const rows: unknown = path.endsWith(".json")
    ? parse(text, "it")
    : lines.map((line, i) => parse(line, `line ${i + 1}`));
  if (!Array.isArray(rows)) throw refuse("found no list, expected a list of rows");
  return rows.map((row, i) => `${JSON.stringify({ id: `${task}-${i}`, ...row })}\n`).join("");
}
