/** A study on disk: one SQLite file that several processes take trials from and write results to. */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { UsageError } from "../../errors.ts";
import type { OptionsRecord } from "../../methods/options.ts";
import { explainStoreError } from "./store_errors.ts";
import {
  type ChunkValue,
  type ClaimedTrial,
  type Counts,
  type FinishedRuns,
  type Proposal,
  type ProposedTrial,
  type Settings,
  type StoredRecord,
  type StoredResult,
  type StoredTrial,
  type StoredWorker,
  type StudyConditions,
  type StudyFacts,
  type StudyFlags,
  TRIAL_STATES,
  type TrialState,
} from "./store_records.ts";
import type { SearchRequest, Trial } from "../trial.ts";

export interface StoreOptions {
  /** Milliseconds to wait for another process's write; default 20 s. */
  readonly timeoutMs?: number;
}

/** How often a trial may be taken before it counts as one that ends its workers. */
export const MAX_ATTEMPTS = 10;

/**
 * A study's file. Every change is one transaction: a process that is killed leaves all of it or nothing. Results are on
 * disk when {@linkcode StudyStore.finish} returns; claims and values of chunks may be lost with the machine's power, and
 * are then made again.
 */
export class StudyStore implements Disposable {
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  private constructor(path: string, { timeoutMs = 20_000 }: StoreOptions) {
    this.path = path;
    this.#db = new DatabaseSync(path, { timeout: timeoutMs });
  }

  /**
   * Makes a study's file.
   *
   * @throws {UsageError} If there is one already, or it cannot be written.
   */
  static create(path: string, facts: StudyFacts, options: StoreOptions = {}): StudyStore {
    return guard(path, () => {
      const store = new StudyStore(path, options);
      try {
        store.#configure();
        store.#transact(() => {
          if (store.#isStudy()) throw new UsageError(`Cannot make "${path}": it is there already`);
          store.#db.exec(TABLES.schema);
          for (const [key, value] of Object.entries({ ...facts, began: new Date().toISOString() })) {
            store.set(key as keyof Settings, value as never);
          }
        });
        return store;
      } catch (error) {
        store[Symbol.dispose]();
        throw error;
      }
    });
  }

  /**
   * Opens a study's file.
   *
   * @throws {UsageError} If it is none, is damaged, locked, or of another version of the store.
   */
  static open(path: string, options: StoreOptions = {}): StudyStore {
    return guard(path, () => {
      try {
        Deno.statSync(path);
      } catch (error) {
        if (path !== "" && !(error instanceof Deno.errors.NotFound)) throw error;
        throw new UsageError(`Cannot open study "${path}": there is no such file`);
      }
      const store = new StudyStore(path, options);
      try {
        if (!store.#isStudy()) throw new UsageError(`Cannot open study "${path}": it is no study's file`);
        const { user_version: version } = store.#get("PRAGMA user_version") as { user_version: number };
        if (version !== TABLES.version) {
          throw new UsageError(
            `Cannot open study "${path}": found a store of version ${version}, expected ${TABLES.version} ` +
              "(open it with the version of this project that made it)",
          );
        }
        store.#configure();
        store.facts;
        return store;
      } catch (error) {
        store[Symbol.dispose]();
        throw error;
      }
    });
  }

  #isStudy(): boolean {
    return (this.#get("PRAGMA application_id") as { application_id: number }).application_id === TABLES.id;
  }

  #configure(): void {
    this.#db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, statement = this.#db.prepare(sql));
    return statement;
  }

  #get(sql: string, ...values: SQLInputValue[]): unknown {
    return guard(this.path, () => this.#prepare(sql).get(...values));
  }

  #all(sql: string, ...values: SQLInputValue[]): unknown[] {
    return guard(this.path, () => this.#prepare(sql).all(...values));
  }

  /** @returns How many rows changed. */
  #run(sql: string, ...values: SQLInputValue[]): number {
    return guard(this.path, () => Number(this.#prepare(sql).run(...values).changes));
  }

  /** Runs a change as one transaction that no other writer comes into. */
  #transact<T>(change: () => T): T {
    return guard(this.path, () => {
      this.#prepare("BEGIN IMMEDIATE").run();
      try {
        const result = change();
        this.#prepare("COMMIT").run();
        return result;
      } catch (error) {
        if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
        throw error;
      }
    });
  }

  get facts(): StudyFacts {
    const { conditions, runDigest, flags } = this;
    return { name: this.get("name")!, conditions, runDigest, flags };
  }

  get conditions(): StudyConditions {
    return this.get("conditions")!;
  }

  get runDigest(): string {
    return this.get("runDigest")!;
  }

  get flags(): StudyFlags {
    return this.get("flags")!;
  }

  /** A setting; undefined where it is not set yet. */
  get<K extends keyof Settings>(key: K): Settings[K] | undefined {
    const row = this.#get("SELECT value FROM setting WHERE key = ?", key) as { value: string } | undefined;
    return row && JSON.parse(row.value);
  }

  /** Sets a setting; undefined takes it out. */
  set<K extends keyof Settings>(key: K, value: Settings[K] | undefined): void {
    if (value === undefined) this.#run("DELETE FROM setting WHERE key = ?", key);
    else this.#run("INSERT OR REPLACE INTO setting VALUES (?, ?)", key, JSON.stringify(value));
  }

  /** Sets what is searched, if anything. Proposals of the same search stay, those of another are removed. */
  begin(search: SearchRequest | undefined): void {
    this.#transact(() => {
      const endless = (request?: SearchRequest) => JSON.stringify({ ...request, trials: 0 });
      if (search !== undefined) this.#db.exec(TABLES.proposals);
      if (search !== undefined && endless(search) !== endless(this.get("search"))) {
        this.#run("DELETE FROM proposal");
      }
      this.set("search", search);
    });
  }

  /**
   * Adds the proposal of a number, and its trial, if nobody has made that one yet.
   *
   * @param search The search that proposes.
   * @param options Of its trial; undefined where it cannot be run.
   * @returns Whether it was added.
   * @throws {UsageError} If the study has been given another search.
   */
  propose(search: SearchRequest, number: number, proposal: Proposal, options?: OptionsRecord): boolean {
    return this.#transact(() => {
      if (JSON.stringify(search) !== JSON.stringify(this.get("search"))) {
        throw new UsageError(
          `Cannot go on with study "${this.path}": it has another search now (begin again)`,
        );
      }
      const { point, digest, error } = proposal;
      const sql = "INSERT INTO proposal VALUES (?, ?, ?, ?) ON CONFLICT (number) DO NOTHING";
      const isNew = this.#run(sql, number, JSON.stringify(point), digest, error) > 0;
      if (isNew && digest !== null && options) this.#insert({ digest, options });
      return isNew;
    });
  }

  #insert({ digest, options }: ProposedTrial): number {
    const sql = "INSERT INTO trial (digest, options) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING";
    return this.#run(sql, digest, JSON.stringify(options));
  }

  /**
   * Adds trials that the study does not hold yet.
   *
   * @param only Digests of the trials that may wait: others that do are taken out.
   * @returns How many were added.
   */
  add(trials: readonly ProposedTrial[], only?: readonly string[]): number {
    return this.#transact(() => {
      if (only) {
        const sql = "DELETE FROM trial WHERE state = 'waiting' AND number NOT IN (SELECT trial FROM chunk) " +
          "AND digest NOT IN (SELECT value FROM json_each(?))";
        this.#run(sql, JSON.stringify(only));
      }
      return trials.reduce((added, trial) => added + this.#insert(trial), 0);
    });
  }

  /**
   * Takes a trial: the first that waits, or one whose worker's lease has run out.
   *
   * @param owner Who takes it.
   * @param leaseMs Milliseconds until others may take it, unless {@linkcode StudyStore.report} renews it before.
   * @returns Undefined where there is none to be had now.
   */
  claim(owner: string, leaseMs: number): ClaimedTrial | undefined {
    const now = Date.now();
    return this.#transact(() => {
      this.#run(
        "UPDATE trial SET state = 'failed', error = ? WHERE state = 'running' AND lease < ? AND attempt >= ?",
        `its worker ended ${MAX_ATTEMPTS} times`,
        now,
        MAX_ATTEMPTS,
      );
      const row = this.#get(TABLES.claim, owner, now + leaseMs, now) as
        | { number: number; digest: string; options: string; attempt: number }
        | undefined;
      if (row !== undefined) this.#run("DELETE FROM chunk WHERE trial = ?", row.number);
      this.#run(TABLES.seen, owner, now, row?.number ?? null);
      return row && { ...row, options: JSON.parse(row.options), owner };
    });
  }

  /**
   * Keeps values of a claimed trial's chunks, and renews its lease.
   *
   * @returns Whether the trial is still its owner's; if not, nothing is kept.
   */
  report(claim: ClaimedTrial, values: readonly ChunkValue[], leaseMs: number): boolean {
    const now = Date.now();
    return this.#transact(() => {
      if (this.#run(`UPDATE trial SET lease = ? WHERE ${HELD}`, now + leaseMs, ...heldBy(claim)) === 0) {
        return false;
      }
      for (const { chunk, loss, denseLoss } of values) {
        this.#run("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?)", claim.number, chunk, loss, denseLoss);
      }
      this.#run(TABLES.seen, claim.owner, now, claim.number);
      return true;
    });
  }

  /**
   * Keeps the result of a claimed trial; it is on disk when this returns.
   *
   * @param state `pruned` for one that was stopped early.
   * @returns Whether it was kept: not where the lease ran out and another worker has the trial, or has finished it.
   */
  finish(claim: ClaimedTrial, record: StoredRecord, state: "complete" | "pruned" = "complete"): boolean {
    return this.#durably(() => {
      if (
        this.#run(`UPDATE trial SET state = ?, lease = NULL WHERE ${HELD}`, state, ...heldBy(claim)) === 0
      ) {
        return false;
      }
      this.#run("INSERT INTO result (trial, record) VALUES (?, ?)", claim.number, JSON.stringify(record));
      this.#run("UPDATE worker SET finished = finished + 1, trial = NULL WHERE owner = ?", claim.owner);
      return true;
    });
  }

  /** A transaction that is on disk when this returns. */
  #durably<T>(change: () => T): T {
    this.#db.exec("PRAGMA synchronous = FULL");
    try {
      return this.#transact(change);
    } finally {
      this.#db.exec("PRAGMA synchronous = NORMAL");
    }
  }

  /** Says that a claimed trial cannot be run; it is not tried again. */
  fail(claim: ClaimedTrial, error: string): void {
    this.#durably(() =>
      this.#run(
        `UPDATE trial SET state = 'failed', error = ?, lease = NULL WHERE ${HELD}`,
        error,
        ...heldBy(claim),
      )
    );
  }

  /** Says that a trial which nobody has a result of will have none. */
  close(digest: string, error: string): void {
    this.#run(
      "UPDATE trial SET state = 'failed', error = ?, lease = NULL WHERE digest = ? AND state IN ('waiting', 'running')",
      error,
      digest,
    );
  }

  /** Takes note of a worker of elsewhere, and of the trial that it is at. */
  see(owner: string, digest: string): void {
    const { number = null } = (this.#get("SELECT number FROM trial WHERE digest = ?", digest) ?? {}) as {
      number?: number;
    };
    this.#run(TABLES.seen, owner, Date.now(), number);
  }

  /** Gives back what a worker has taken and not finished, at once. @returns How many trials wait again. */
  release(owner: string): number {
    return this.#transact(() => {
      this.#run("UPDATE worker SET trial = NULL WHERE owner = ?", owner);
      return this.#run(
        "UPDATE trial SET state = 'waiting', lease = NULL WHERE state = 'running' AND owner = ?",
        owner,
      );
    });
  }

  /** Keeps trials that ended elsewhere; those that the study holds a result of stay. @returns How many were taken in. */
  take(trials: readonly (ProposedTrial & { readonly record: StoredRecord })[]): number {
    this.add(trials);
    return this.#durably(() => {
      let taken = 0;
      for (const { digest, record } of trials) {
        const sql = "INSERT INTO result (trial, record) SELECT number, ? FROM trial WHERE digest = ? " +
          "ON CONFLICT (trial) DO NOTHING";
        const isNew = this.#run(sql, JSON.stringify(record), digest) > 0;
        if (isNew) {
          this.#run(
            "UPDATE trial SET state = ?, lease = NULL, error = NULL WHERE digest = ?",
            "stopped" in record ? "pruned" : "complete",
            digest,
          );
        }
        taken += Number(isNew);
      }
      return taken;
    });
  }

  count(): Counts {
    const rows = this.#all("SELECT state, count(*) AS n FROM trial GROUP BY state") as {
      state: TrialState;
      n: number;
    }[];
    const counts = new Map(rows.map(({ state, n }) => [state, n]));
    return Object.fromEntries(TRIAL_STATES.map((state) => [state, counts.get(state) ?? 0])) as Counts;
  }

  owners(): string[] {
    const rows = this.#all("SELECT DISTINCT owner FROM trial WHERE state = 'running'") as { owner: string }[];
    return rows.map(({ owner }) => owner);
  }

  /** Digests of the trials that will have no result. */
  failed(): string[] {
    const rows = this.#all("SELECT digest FROM trial WHERE state = 'failed'") as { digest: string }[];
    return rows.map(({ digest }) => digest);
  }

  /** What the search of {@linkcode StudyStore.begin} has proposed, in order, from a place on. */
  proposals(from = 0): Proposal[] {
    const rows = this.#all(
      "SELECT point, digest, error FROM proposal WHERE number >= ? ORDER BY number",
      from,
    ) as (Proposal & { point: string })[];
    return rows.map(({ point, digest, error }) => ({ point: JSON.parse(point), digest, error }));
  }

  workers(): StoredWorker[] {
    return this.#all(
      "SELECT owner, seen AS seenMs, finished, trial FROM worker ORDER BY owner",
    ) as StoredWorker[];
  }

  trials(): StoredTrial[] {
    const rows = this.#all(
      "SELECT number, digest, options, state, attempt, owner, error FROM trial ORDER BY number",
    ) as (StoredTrial & { options: string })[];
    return rows.map((row) => ({ ...row, options: JSON.parse(row.options) }));
  }

  /** Values of the chunks of a trial that are done, ascending. */
  chunks(number: number): ChunkValue[] {
    return this.#all(
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
    const rows = this.#all(
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
    return this.#all(
      `SELECT trial.number, trial.state${
        columns && `, ${columns}`
      } FROM trial LEFT JOIN result ON trial = number ORDER BY number`,
    ) as { readonly [name: string]: unknown }[];
  }

  records<T extends Trial = Trial>(numbers: readonly number[]): T[] {
    const rows = this.#all(
      "SELECT record FROM result WHERE trial IN (SELECT value FROM json_each(?)) ORDER BY trial",
      JSON.stringify(numbers),
    ) as { record: string }[];
    return rows.map(({ record }) => JSON.parse(record));
  }

  #units(select: string, ...values: SQLInputValue[]): unknown[] {
    const isThere = this.#get("SELECT 1 FROM sqlite_schema WHERE name = 'unit'") !== undefined;
    return isThere ? this.#all(`SELECT ${select} ORDER BY sequence`, ...values) : [];
  }

  countUnits(kind: string): number {
    return this.#units("1 FROM unit WHERE kind = ?", kind).length;
  }

  /** Units of all kinds but those that are bytes, in the order in which they ended. */
  listUnits(): { readonly kind: string }[] {
    const rows = this.#units("kind, record FROM unit WHERE typeof(record) = 'text'") as {
      kind: string;
      record: string;
    }[];
    return rows.map(({ kind, record }) => ({ kind, ...JSON.parse(record) }));
  }

  /**
   * Units of work of a kind that are no trials: those that are finished, and where the next ones go. They are on disk when
   * `append` returns.
   *
   * @param keyOf What tells a unit from the others of its kind.
   */
  units<T>(kind: string, keyOf: (unit: T) => string): FinishedRuns<T> {
    const rows = this.#units("record FROM unit WHERE kind = ?", kind) as { record: string }[];
    return {
      finished: rows.map(({ record }) => JSON.parse(record)),
      append: (...units) => this.#keep(kind, units.map((unit) => [keyOf(unit), JSON.stringify(unit)])),
    };
  }

  #keep(kind: string, units: readonly (readonly [key: string, record: string | Uint8Array])[]): void {
    this.#durably(() => {
      this.#db.exec(TABLES.units);
      const sql = "INSERT INTO unit (kind, key, record) VALUES (?, ?, ?)";
      for (const [key, record] of units) this.#run(sql, kind, key, record);
    });
  }

  /** The bytes that a unit is; undefined where there is no such unit. */
  readBytes(kind: string, key: string): Uint8Array | undefined {
    const [row] = this.#units("record FROM unit WHERE kind = ? AND key = ?", kind, key) as {
      record: Uint8Array;
    }[];
    return row?.record;
  }

  /** Keeps bytes as a unit; they are on disk when this returns. */
  writeBytes(kind: string, key: string, bytes: Uint8Array): void {
    this.#keep(kind, [[key, bytes]]);
  }

  [Symbol.dispose](): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

const HELD = "number = ? AND owner = ? AND attempt = ? AND state = 'running'";
const heldBy = ({ number, owner, attempt }: ClaimedTrial) => [number, owner, attempt] as const;

function guard<T>(path: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw explainStoreError(path, error);
  }
}

/** Tables and longer statements; `id` and `version` stand in the file's header. */
const TABLES = {
  id: 0x544b4653,
  version: 1,
  schema: `
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trial (
  number INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  options TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'complete', 'pruned', 'failed')),
  owner TEXT,
  lease REAL,
  attempt INTEGER NOT NULL DEFAULT 0,
  error TEXT
);
CREATE INDEX trial_state ON trial (state, number);
CREATE TABLE chunk (
  trial INTEGER NOT NULL REFERENCES trial (number),
  chunk INTEGER NOT NULL,
  loss REAL NOT NULL,
  dense REAL NOT NULL,
  PRIMARY KEY (trial, chunk)
) WITHOUT ROWID;
CREATE TABLE result (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  trial INTEGER NOT NULL UNIQUE REFERENCES trial (number),
  record TEXT NOT NULL
);
CREATE TABLE worker (
  owner TEXT PRIMARY KEY,
  seen REAL NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0,
  trial INTEGER
) WITHOUT ROWID;
PRAGMA application_id = ${0x544b4653};
PRAGMA user_version = 1;
`,
  proposals: `
CREATE TABLE IF NOT EXISTS proposal (
  number INTEGER PRIMARY KEY,
  point TEXT NOT NULL,
  digest TEXT,
  error TEXT
)`,
  units: `
CREATE TABLE IF NOT EXISTS unit (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  record NOT NULL,
  UNIQUE (kind, key)
)`,
  claim: `
UPDATE trial SET state = 'running', owner = ?, lease = ?, attempt = attempt + 1
WHERE number = coalesce(
  (SELECT number FROM trial WHERE state = 'waiting' ORDER BY number LIMIT 1),
  (SELECT number FROM trial WHERE state = 'running' AND lease < ? ORDER BY number LIMIT 1)
)
RETURNING number, digest, options, attempt`,
  seen: `
INSERT INTO worker (owner, seen, trial) VALUES (?, ?, ?)
ON CONFLICT (owner) DO UPDATE SET seen = excluded.seen, trial = excluded.trial`,
} as const;
