/** What a study on disk can be asked. */
import type { SQLInputValue } from "node:sqlite";
import {
  type ChunkValue,
  type Proposal,
  type StoredRecord,
  type StoredResult,
  type StoredTrial,
  type StoredWorker,
  TRIAL_STATES,
  type TrialState,
} from "./store_records.ts";
import type { Trial } from "./trial.ts";

/** Trials by state. */
export type Counts = { readonly [state in TrialState]: number };

/** The questions; each reads the file as it stands then. */
export abstract class StoreReader {
  /**
   * All rows of a query.
   * @internal
   */
  protected abstract all(sql: string, ...values: SQLInputValue[]): unknown[];

  /** How many trials are in each state. */
  count(): Counts {
    const rows = this.all("SELECT state, count(*) AS n FROM trial GROUP BY state") as {
      state: TrialState;
      n: number;
    }[];
    const counts = new Map(rows.map(({ state, n }) => [state, n]));
    return Object.fromEntries(TRIAL_STATES.map((state) => [state, counts.get(state) ?? 0])) as Counts;
  }

  /** Who has trials now. */
  owners(): string[] {
    const rows = this.all("SELECT DISTINCT owner FROM trial WHERE state = 'running'") as { owner: string }[];
    return rows.map(({ owner }) => owner);
  }

  /** Digests of the trials that will have no result. */
  failed(): string[] {
    const rows = this.all("SELECT digest FROM trial WHERE state = 'failed'") as { digest: string }[];
    return rows.map(({ digest }) => digest);
  }

  /** What the search of {@linkcode StudyStore.begin} has proposed, in order, from a place on. */
  proposals(from = 0): Proposal[] {
    const rows = this.all(
      "SELECT point, digest, error FROM proposal WHERE number >= ? ORDER BY number",
      from,
    ) as (Proposal & { point: string })[];
    return rows.map(({ point, digest, error }) => ({ point: JSON.parse(point), digest, error }));
  }

  /** Every worker there was. */
  workers(): StoredWorker[] {
    return this.all(
      "SELECT owner, seen AS seenMs, finished, trial FROM worker ORDER BY owner",
    ) as StoredWorker[];
  }

  /** The trials, in their order. */
  trials(): StoredTrial[] {
    const rows = this.all(
      "SELECT number, digest, options, state, attempt, owner, error FROM trial ORDER BY number",
    ) as (StoredTrial & { options: string })[];
    return rows.map((row) => ({ ...row, options: JSON.parse(row.options) }));
  }

  /** Values of the chunks of a trial that are done, ascending. */
  chunks(number: number): ChunkValue[] {
    return this.all(
      "SELECT chunk, loss, dense AS denseLoss FROM chunk WHERE trial = ? ORDER BY chunk",
      number,
    ) as ChunkValue[];
  }

  /** Records of finished trials, in the order in which they ended; those that were stopped early have no result. */
  finished<T extends Trial = Trial>(): T[] {
    return this.results<StoredRecord>().flatMap(({ record }) => "stopped" in record ? [] : [record as T]);
  }

  /** What ended after the place in the order; from the beginning where none is given. */
  results<T extends StoredRecord = Trial>(after = 0): StoredResult<T>[] {
    const rows = this.all(
      "SELECT sequence, record FROM result WHERE sequence > ? ORDER BY sequence",
      after,
    ) as { sequence: number; record: string }[];
    return rows.map(({ sequence, record }) => ({ sequence, record: JSON.parse(record) }));
  }

  /** Some fields of every result, in the order of trials: for lists of many. */
  fields(names: readonly string[]): { readonly [name: string]: unknown }[] {
    const columns = names.map((name) => `record ->> '$.${name.replaceAll(/\W/g, "")}' AS "${name}"`).join(
      ", ",
    );
    return this.all(
      `SELECT trial.number, trial.state${
        columns && `, ${columns}`
      } FROM trial LEFT JOIN result ON trial = number ORDER BY number`,
    ) as { readonly [name: string]: unknown }[];
  }

  /** Records of some trials, by their numbers. */
  records<T extends Trial = Trial>(numbers: readonly number[]): T[] {
    const rows = this.all(
      "SELECT record FROM result WHERE trial IN (SELECT value FROM json_each(?)) ORDER BY trial",
      JSON.stringify(numbers),
    ) as { record: string }[];
    return rows.map(({ record }) => JSON.parse(record));
  }
}
