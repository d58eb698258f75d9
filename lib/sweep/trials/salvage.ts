/** Recovers the sound parts of a study's damaged file. */
import type { SQLInputValue } from "node:sqlite";
import type { OptionsRecord } from "../../methods/options.ts";
import type { ProposedTrial, Settings, StoredRecord } from "./store_records.ts";
import { StudyFile } from "./study_file.ts";

/** Settings that a study is made anew with; the others its next run sets. */
const KEPT = ["name", "conditions", "runDigest", "flags", "command", "dense", "environment", "race"] as const;

/** Rows in a row that cannot be read, after which no more are sought. */
const MOST_MISSES = 1000;

export interface Salvaged {
  readonly settings: Partial<Settings>;
  readonly trials: readonly ProposedTrial[];
  /** Records whose digests match. */
  readonly records: readonly StoredRecord[];
  /** Units of work of other commands. */
  readonly units: readonly {
    readonly kind: string;
    readonly key: string;
    readonly record: string | Uint8Array;
  }[];
  /** How many trials and results were left out. */
  readonly lost: number;
}

/**
 * Reads the sound rows of a study, one by one.
 *
 * @throws {UsageError} If it is no study at all.
 */
export function salvageStudy(path: string): Salvaged {
  using file = new StudyFile(path, {});
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
  const settings = Object.fromEntries(KEPT.flatMap((key) => {
    const value = tryTo(() => {
      const row = file.get<{ value: string }>("SELECT value FROM setting WHERE key = ?", key);
      return row && file.parse("setting", key, row.value);
    });
    return value === undefined ? [] : [[key, value]];
  }));
  const trials = [...rows<{ digest: string; options: string }>("trial", "number")].flatMap((
    { digest, options },
  ) => tryTo(() => [{ digest, options: file.parse<OptionsRecord>("trial", digest, options) }]) ?? []);
  const records = [...rows<{ trial: number; record: string }>("result", "sequence")].flatMap((
    { trial, record },
  ) => tryTo(() => [file.parse<StoredRecord>("result", trial, record)]) ?? []);
  const units = [...rows<Salvaged["units"][number]>("unit", "sequence")].filter(({ kind, key, record }) =>
    tryTo(() => {
      file.expectSealed("unit", `${kind} ${key}`, record);
      return true;
    })
  );
  return { settings, trials, records, units, lost };
}
