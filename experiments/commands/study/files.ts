/** Studies as files of other kinds, and back. */
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import { UsageError } from "../../../lib/errors.ts";
import { formatCsv } from "../../../lib/plot/csv.ts";
import { nameTrials } from "../../../lib/plot/trials/trial_label.ts";
import { plural } from "../../../lib/plural.ts";
import { CONDITION_NAMES, type RunConditions, type Trial } from "../../../lib/sweep/trial.ts";
import { digestConditions } from "../../../lib/sweep/trials/digest.ts";
import { salvageStudy } from "../../../lib/sweep/trials/salvage.ts";
import { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type { StoredRecord } from "../../../lib/sweep/trials/store_records.ts";
import { TABLES as STUDY_TABLES } from "../../../lib/sweep/trials/store_tables.ts";
import { finishedTrials } from "../../../lib/sweep/trials/trial_source.ts";
import { exists, parseJson, readText, writeWhole } from "../cli/files.ts";
import { expectSameStudy, expectSweep, findWrongRecord } from "../cli/run/study_store.ts";
import { writeOptuna } from "./optuna.ts";

/** Writers of a study, by the ending of the file's name. */
const WRITERS: { readonly [ending: string]: (store: StudyStore, path: string) => number | Promise<number> } =
  {
    jsonl: (store, path) =>
      writeRecords(path, listRecords(store), (all) => all.map((one) => `${JSON.stringify(one)}\n`).join("")),
    csv: (store, path) => writeRecords(path, listEnded(store), formatCsv),
    parquet: (store, path) => writeRecords(path, listEnded(store), (records) => toParquet(records, store)),
    optuna: writeOptuna,
  };

async function writeRecords(
  path: string,
  records: readonly object[],
  format: (records: readonly object[]) => string | Uint8Array,
): Promise<number> {
  await writeWhole(path, format(records));
  return records.length;
}

export const KINDS: readonly string[] = Object.keys(WRITERS);

/** Records of finished trials, or of the units of another command's study. */
export const listRecords = (store: StudyStore): readonly object[] =>
  store.get("command") === undefined ? store.finished() : store.listUnits();

/** The same with trials that a race stopped, each with its method's name in tables. */
const listEnded = (store: StudyStore): readonly object[] =>
  store.get("command") === undefined
    ? nameTrials(store.results().map(({ record }) => record))
    : store.listUnits();

/**
 * Writes a study's results.
 *
 * @param kind default: the end of the path's name
 * @returns How many.
 * @throws {UsageError} If that is none of the kinds.
 */
export async function exportStudy(
  store: StudyStore,
  path: string,
  kind = path.match(/\.(\w+)$/)?.[1],
): Promise<number> {
  if (kind === undefined || !Object.hasOwn(WRITERS, kind)) {
    throw new UsageError(
      `Cannot write "${path}": expected a name that ends in one of .${KINDS.join(", .")}, or --as`,
    );
  }
  if (kind === "optuna") expectSweep(store);
  return await WRITERS[kind]!(store, path);
}

/** Records as a Parquet file: numbers, flags and texts as they are, all else as JSON; a field that is missing is null. */
function toParquet(records: readonly object[], store: StudyStore): Uint8Array {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const columnData = names.map((name): ColumnSource => {
    const values = records.map((record) => (record as Record<string, unknown>)[name] ?? null);
    const all = (type: string) => values.every((value) => value === null || typeof value === type);
    if (all("number")) return { name, data: values, type: "DOUBLE" };
    if (all("boolean")) return { name, data: values, type: "BOOLEAN" };
    if (all("string")) return { name, data: values, type: "STRING" };
    return {
      name,
      data: values.map((value) => value === null ? null : JSON.stringify(value)),
      type: "STRING",
    };
  });
  const kvMetadata = Object.entries(store.facts).map(([key, value]) => ({
    key,
    value: JSON.stringify(value),
  }));
  return new Uint8Array(parquetWriteBuffer({ columnData, kvMetadata }));
}

/** The conditions of the run of a record. */
export function conditionsOf(record: StoredRecord): RunConditions {
  return Object.fromEntries(
    CONDITION_NAMES.filter((name) => record[name] !== undefined).map((name) => [name, record[name]]),
  ) as unknown as RunConditions;
}

/** Reads a JSONL file of trials. @throws {UsageError} If a line is none, or ran under other conditions than the first. */
export async function readRecords(path: string): Promise<Trial[]> {
  const lines = (await readText(path)).split("\n");
  if (lines.at(-1) !== "") lines.pop(); // torn by a crash
  const digests = new Set<string>();
  return lines.filter((line) => line !== "").map((line, i) => {
    const refuse = (what: string) => new UsageError(`Cannot read "${path}": line ${i + 1}${what}`);
    const record = parseJson(line) as Trial | undefined;
    if (record === undefined) throw refuse(" is not JSON");
    if (typeof record?.runDigest !== "string") throw refuse(" is no trial");
    const wrong = findWrongRecord(record);
    if (wrong !== undefined) throw refuse(`, ${wrong}`);
    if (digests.add(record.runDigest).size > 1) throw refuse(" ran under other conditions than the first");
    return record;
  });
}

/** Takes trials into a study, which is made where there is none. @returns How many are new. */
export async function importTrials(path: string, records: readonly Trial[]): Promise<number> {
  const [first] = records;
  if (first === undefined) throw new UsageError(`Cannot make study "${path}": found no trial`);
  const conditions = conditionsOf(first), runDigest = await digestConditions(conditions);
  if (runDigest !== first.runDigest) {
    throw new UsageError(`Cannot take in trial ${first.trial}: its digest is not that of its conditions`);
  }
  const name = path.split("/").at(-1)!.replace(/\.\w+$/, "");
  using store = exists(path)
    ? StudyStore.open(path)
    : StudyStore.create(path, { name, conditions, runDigest, flags: {} });
  expectSweep(store);
  expectSameStudy(store, conditions);
  return store.take(finishedTrials(records));
}

/**
 * Joins studies of the same conditions into one. It has the first result of each trial; a trial that no part has
 * finished waits.
 *
 * @returns How many trials were new.
 * @throws {UsageError} If two have different conditions.
 */
export function mergeStudies(parts: readonly StudyStore[], path: string): number {
  const [first] = parts as readonly [StudyStore];
  for (const part of parts) expectSameStudy(part, first.conditions);
  using into = exists(path) ? StudyStore.open(path) : StudyStore.create(path, first.facts);
  expectSameStudy(into, first.conditions);
  let taken = 0;
  for (const part of parts) {
    for (const key of ["dense", "environment"] as const) {
      const value = part.get(key);
      if (into.get(key) === undefined && value !== undefined) into.set(key, value);
    }
    into.add(part.trials());
    taken += into.take(finishedTrials(part.finished()));
  }
  return taken;
}

/**
 * Copies the undamaged part of a study: its settings, trials, units of work, and unchanged results. A trial with a
 * damaged result waits again, and so does a trial at work. A study of an older version is brought up to date.
 *
 * @returns A line about the copied part.
 * @throws {UsageError} If neither the conditions nor a result is sound, or the new file is there already. Also if the
 * study is of a newer version, or a sound result of an older one cannot be kept.
 */
export async function repairStudy(from: string, to: string): Promise<string> {
  if (exists(to)) throw new UsageError(`Cannot write "${to}": it is there already`);
  const { version, settings, trials, records, units, lost } = salvageStudy(from), [first] = records;
  const conditions = settings.conditions ?? (first && conditionsOf(first));
  if (conditions === undefined) {
    throw new UsageError(`Cannot repair study "${from}": neither its conditions nor a result is sound`);
  }
  const runDigest = await digestConditions(conditions);
  const sound = records.filter((record) =>
    record.runDigest === runDigest && findWrongRecord(record) === undefined
  );
  const isOlder = version < STUDY_TABLES.version, isSweep = settings.command === undefined;
  if (isOlder && isSweep && sound.length < records.length) {
    const wrong = records.find((record) => !sound.includes(record))!;
    const why = findWrongRecord(wrong) ?? "of other conditions";
    throw new UsageError(
      `Cannot bring study "${from}" from version ${version} to ${STUDY_TABLES.version}: trial ${wrong.trial}, ` +
        `${why} (open it with the version of this project that made it)`,
    );
  }
  const { name = "repaired", flags = {}, command, dense, environment, race } = settings, part = `${to}.part`;
  {
    using store = StudyStore.create(part, { name, conditions, runDigest, flags, command });
    for (const [key, value] of Object.entries({ dense, environment, race })) {
      store.set(key as "race", value as typeof race);
    }
    store.add(trials);
    store.take(finishedTrials(sound));
    for (const { kind, key, record } of units) {
      if (record instanceof Uint8Array) store.writeBytes(kind, key, record);
      else store.units(kind, () => key).append(record);
    }
  }
  Deno.renameSync(part, to);
  const kept = `${plural(sound.length, "result")}, ${plural(trials.length, "trial")}`;
  const left = plural(lost + records.length - sound.length, "row");
  const raised = isOlder ? `; from version ${version} of the store to ${STUDY_TABLES.version}` : "";
  return `${kept} and ${plural(units.length, "unit")} of work are sound, in ${to}; ${left} left out${raised}`;
}
