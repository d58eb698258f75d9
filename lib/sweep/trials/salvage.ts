/** Recovers the sound parts of a study's file, which may be damaged or of an older version. */
import type { SQLInputValue } from "node:sqlite";
import { UsageError } from "../../errors.ts";
import type { OptionsRecord } from "../../methods/bind/options.ts";
import { explainVersion, migrate, migrateDigest } from "./migrations.ts";
import type { ProposedTrial, Settings, StoredRecord, StoredUnit } from "./store_records.ts";
import { TABLES } from "./store_tables.ts";
import { StudyFile } from "./study_file.ts";
import { disposing } from "../../disposing.ts";

/** Settings that a study is made anew with; the others its next run sets. */
const KEPT = ["name", "conditions", "runDigest", "flags", "command", "dense", "environment", "race"] as const;

/** Rows in a row that cannot be read, after which no more are sought. */
const MOST_MISSES = 1000;

export interface Salvaged {
  /** The version of its store; the content is that of the present one. */
  readonly version: number;
  readonly settings: Partial<Settings>;
  readonly trials: readonly ProposedTrial[];
  /** Records whose digests match. */
  readonly records: readonly StoredRecord[];
  /** Units of work of other commands. */
  readonly units: readonly StoredUnit[];
  /** How many trials and results were left out. */
  readonly lost: number;
}

/** The version of a file's store: the present one where its header is damaged. @throws {UsageError} If it is newer. */
function readVersion(file: StudyFile): number {
  let version: number = TABLES.version;
  try {
    if (file.isStudy) version = file.version;
  } catch {
    return TABLES.version;
  }
  if (version > TABLES.version) {
    throw new UsageError(`Cannot repair study "${file.path}": ${explainVersion(version)}`);
  }
  return Math.max(version, 1);
}

/**
 * Reads the sound rows of a study, one by one, and brings those of an older version up to date.
 *
 * @throws {UsageError} If it is no study at all, or of a newer version.
 */
export function salvageStudy(path: string): Salvaged {
  return disposing(new StudyFile(path, {}), salvage);
}

function salvage(file: StudyFile): Salvaged {
  const version = readVersion(file);
  file.hasSeals = version > 1;
  let lost = 0;
  const tryTo = <T>(step: () => T): T | undefined => {
    try {
      return step();
    } catch {
      lost++;
      return undefined;
    }
  };
  const rows = function* <T>(table: string, order: string): Generator<T> {
    const sql = `SELECT ${order} AS at, * FROM ${table} WHERE ${order} > ? ORDER BY ${order} LIMIT 1`;
    for (let at: SQLInputValue = 0, misses = 0; misses < MOST_MISSES;) {
      try {
        const row: T & { at: number } | undefined = file.get(sql, at);
        if (row === undefined) return;
        if (!(row.at > Number(at))) throw new RangeError("out of order"); // the rows of a damaged page may go round
        at = row.at;
        misses = 0;
        yield row;
      } catch {
        at = Number(at) + 1;
        misses++;
      }
    }
  };
  const parse = <T>(place: string, key: string | number, json: string): T =>
    migrate(version, place === "setting" ? String(key) : place, file.parse<T>(place, key, json));
  const settings = Object.fromEntries(KEPT.flatMap((key) => {
    const value = tryTo(() => {
      const row = file.get<{ value: string }>("SELECT value FROM setting WHERE key = ?", key);
      return row && parse("setting", key, row.value);
    });
    return value === undefined ? [] : [[key, value]];
  }));
  const trials = [...rows<{ digest: string; options: string }>("trial", "number")].flatMap((
    { digest, options },
  ) => tryTo(() => [{ digest, options: parse<OptionsRecord>("trial", digest, options) }]) ?? []);
  const records = [...rows<{ trial: number; record: string }>("result", "sequence")].flatMap((
    { trial, record },
  ) => tryTo(() => [Object(parse("result", trial, record)) as StoredRecord]) ?? []);
  const units = [...rows<StoredUnit<string | Uint8Array>>("unit", "sequence")].flatMap((
    { kind, key, record },
  ) =>
    tryTo(() => {
      if (typeof record === "string") return [{ kind, key, record: parse("unit", `${kind} ${key}`, record) }];
      file.expectSealed("unit", `${kind} ${key}`, record);
      return [{ kind, key, record }];
    }) ?? []
  );
  const digest = (old: string, options: OptionsRecord) => migrateDigest(version, old, options);
  return {
    ...{ version, settings, units, lost },
    trials: trials.map((own) => ({ ...own, digest: digest(own.digest, own.options) })),
    records: records.map((own) => ({ ...own, trial: digest(own.trial, own) })),
  };
}
