/** A study on disk: one SQLite file that several processes take trials from and write results to. */
import type { SQLInputValue } from "node:sqlite";
import { isMissing } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import type { OptionsRecord } from "../../methods/bind/options.ts";
import { explainVersion } from "./migrations.ts";
import { damagedStudy } from "./store_errors.ts";
import {
  type ChunkValue,
  type ClaimedTrial,
  type Counts,
  type EndedJob,
  type FinishedRuns,
  type HeldTrial,
  type Proposal,
  type ProposedTrial,
  type Settings,
  type StoredRecord,
  type StoredResult,
  type StoredTrial,
  type StoredUnit,
  type StoredWorker,
  type StudyConditions,
  type StudyFacts,
  type StudyFlags,
  TRIAL_STATES,
  type TrialState,
} from "./store_records.ts";
import { findWrongTable, TABLES } from "./store_tables.ts";
import { type StoreOptions, StudyFile } from "./study_file.ts";
import type { SearchRequest, Trial } from "../trial.ts";

/** How often a trial may be taken before it counts as one that ends its workers. */
export const MAX_ATTEMPTS = 10;

/**
 * A study's file. Every change is one transaction: a process that is killed leaves all of it or nothing. Results are on
 * disk when {@linkcode StudyStore.finish} returns. A power failure may lose claims and values of chunks, which are made
 * again. Settings, options, proposals, results and units carry the SHA-256 of their content, which is checked where
 * they are read.
 */
export class StudyStore implements Disposable {
  readonly #file: StudyFile;
  /** The place in the order of results up to which they are known to be sound. */
  #soundUpTo = 0;

  private constructor(file: StudyFile) {
    this.#file = file;
  }

  get path(): string {
    return this.#file.path;
  }

  /**
   * Makes a study's file, which others see whole or not at all; `:memory:` is one without a file.
   *
   * @throws {UsageError} If there is one already, or it cannot be written.
   */
  static create(path: string, facts: StudyFacts, options: StoreOptions = {}): StudyStore {
    if (path === MEMORY) return StudyStore.#make(path, facts, options);
    const part = `${path}.${crypto.randomUUID().slice(0, 8)}.part`;
    try {
      StudyStore.#make(part, facts, options)[Symbol.dispose]();
      Deno.linkSync(part, path);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      throw new UsageError(`Cannot make "${path}": it is there already`);
    } finally {
      if (isThere(part)) Deno.removeSync(part);
    }
    return StudyStore.open(path, options);
  }

  static #make(path: string, facts: StudyFacts, options: StoreOptions): StudyStore {
    const file = new StudyFile(path, options), store = new StudyStore(file);
    try {
      file.transact(() => {
        file.exec(TABLES.schema);
        for (const [key, value] of Object.entries({ ...facts, began: new Date().toISOString() })) {
          store.set(key as keyof Settings, value as never);
        }
      });
      return store;
    } catch (error) {
      store[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Opens a study's file.
   *
   * @throws {UsageError} If it is none, is damaged, locked, or of another version of the store.
   */
  static open(path: string, options: StoreOptions = {}): StudyStore {
    const refuse = (why: string) => new UsageError(`Cannot open study "${path}": ${why}`);
    try {
      if (!Deno.statSync(path).isFile) throw refuse("it is no plain file");
    } catch (error) {
      if (path !== "" && !(error instanceof Deno.errors.NotFound)) throw error;
      throw refuse("there is no such file");
    }
    const file = new StudyFile(path, options), store = new StudyStore(file);
    try {
      if (!file.isStudy) throw refuse("it is no study's file");
      const { version } = file;
      if (version !== TABLES.version) throw refuse(explainVersion(version));
      file.configure();
      store.#expectSound(options.isGlance === true);
      return store;
    } catch (error) {
      store[Symbol.dispose]();
      throw error;
    }
  }

  /** Checks the file: its pages and tables, the settings of every study, and that each ended trial has its result. */
  #expectSound(isGlance: boolean): void {
    const check = isGlance
      ? undefined
      : this.#file.get<{ integrity_check: string }>("PRAGMA integrity_check(1)");
    if (check !== undefined && check.integrity_check !== "ok") {
      throw damagedStudy(this.path, check.integrity_check);
    }
    const tables = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'";
    const wrong = findWrongTable(this.#file.all(tables));
    if (wrong !== undefined) throw damagedStudy(this.path, `its table ${wrong} is not that of a study`);
    for (const [key, type] of Object.entries(FACTS)) {
      const found = this.get(key as keyof StudyFacts);
      if (typeof found !== type || found === null) throw damagedStudy(this.path, `it has no ${key}`);
    }
    const ends = "(SELECT count(*) FROM trial WHERE state IN ('complete', 'pruned'))";
    const counts = `SELECT ${ends} AS ended, (SELECT count(*) FROM result) AS results`;
    const { ended, results } = this.#file.get<{ ended: number; results: number }>(counts)!;
    if (ended !== results) {
      throw damagedStudy(this.path, `${ended} trials have ended, and ${results} results are there`);
    }
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
    const row = this.#file.get<{ value: string }>("SELECT value FROM setting WHERE key = ?", key);
    return row && this.#file.parse("setting", key, row.value);
  }

  /** Sets a setting; undefined takes it out. */
  set<K extends keyof Settings>(key: K, value: Settings[K] | undefined): void {
    this.#file.transact(() => {
      if (value === undefined) {
        this.#file.run("DELETE FROM setting WHERE key = ?", key);
        return;
      }
      const json = JSON.stringify(value);
      this.#file.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", key, json);
      this.#file.seal("setting", key, json);
    });
  }

  /** Sets the search of the study, if any. Proposals of the same search stay, those of another are removed. */
  begin(search: SearchRequest | undefined): void {
    this.#file.transact(() => {
      const endless = (request?: SearchRequest) => JSON.stringify({ ...request, trials: 0 });
      if (search !== undefined) this.#file.exec(TABLES.proposals);
      if (search !== undefined && endless(search) !== endless(this.get("search"))) {
        this.#file.run("DELETE FROM proposal");
      }
      this.set("search", search);
    });
  }

  /**
   * Adds the proposal of a number, and its trial, if no process has made that one yet.
   *
   * @param search The search that proposes.
   * @param options Options of its trial; undefined where it cannot be run.
   * @returns Whether it was added.
   * @throws {UsageError} If the study has been given another search.
   */
  propose(search: SearchRequest, number: number, proposal: Proposal, options?: OptionsRecord): boolean {
    return this.#file.transact(() => {
      if (JSON.stringify(search) !== JSON.stringify(this.get("search"))) {
        throw new UsageError(
          `Cannot go on with study "${this.path}": it has another search now (begin again)`,
        );
      }
      const { digest, error } = proposal, point = JSON.stringify(proposal.point);
      const sql = "INSERT INTO proposal VALUES (?, ?, ?, ?) ON CONFLICT (number) DO NOTHING";
      const isNew = this.#file.run(sql, number, point, digest, error) > 0;
      if (isNew) this.#file.seal("proposal", number, JSON.stringify([point, digest, error]));
      if (isNew && digest !== null && options) this.#insert({ digest, options });
      return isNew;
    });
  }

  #insert({ digest, options }: ProposedTrial): number {
    const sql = "INSERT INTO trial (digest, options) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING";
    const json = JSON.stringify(options), added = this.#file.run(sql, digest, json);
    if (added > 0) this.#file.seal("trial", digest, json);
    return added;
  }

  /**
   * Adds trials that the study does not hold yet.
   *
   * @param only Digests of the trials that may wait: others that do are taken out.
   * @returns How many were added.
   */
  add(trials: readonly ProposedTrial[], only?: readonly string[]): number {
    return this.#file.transact(() => {
      if (only) {
        const sql = "DELETE FROM trial WHERE state = 'waiting' AND number NOT IN (SELECT trial FROM chunk) " +
          "AND digest NOT IN (SELECT value FROM json_each(?))";
        this.#file.run(sql, JSON.stringify(only));
      }
      return trials.reduce((added, trial) => added + this.#insert(trial), 0);
    });
  }

  /**
   * Takes a trial: the first that waits, or one whose worker's lease has run out.
   *
   * @param owner Name of the worker that takes it.
   * @param leaseMs Milliseconds until others may take it, unless {@linkcode StudyStore.report} renews it before.
   * @returns Undefined where there is none to be had now.
   */
  claim(owner: string, leaseMs: number): ClaimedTrial | undefined {
    const now = Date.now();
    return this.#file.transact(() => {
      this.#file.run(
        "UPDATE trial SET state = 'failed', error = ? WHERE state = 'running' AND lease < ? AND attempt >= ?",
        `its worker ended ${MAX_ATTEMPTS} times`,
        now,
        MAX_ATTEMPTS,
      );
      const row = this.#file.get<ClaimedRow>(TABLES.claim, owner, now + leaseMs, now);
      if (row !== undefined) this.#file.run("DELETE FROM chunk WHERE trial = ?", row.number);
      this.#file.run(TABLES.seen, owner, now, row?.number ?? null);
      return row && { ...row, options: this.#file.parse("trial", row.digest, row.options), owner };
    });
  }

  /**
   * Keeps values of a claimed trial's chunks, and renews its lease.
   *
   * @returns Whether the trial is still its owner's; if not, nothing is kept.
   */
  report(claim: ClaimedTrial, values: readonly ChunkValue[], leaseMs: number): boolean {
    const now = Date.now();
    return this.#file.transact(() => {
      if (this.#file.run(`UPDATE trial SET lease = ? WHERE ${HELD}`, now + leaseMs, ...heldBy(claim)) === 0) {
        return false;
      }
      for (const { chunk, loss, denseLoss } of values) {
        this.#file.run(
          "INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?)",
          claim.number,
          chunk,
          loss,
          denseLoss,
        );
      }
      this.#file.run(TABLES.seen, claim.owner, now, claim.number);
      return true;
    });
  }

  /**
   * Keeps the result of a claimed trial, or the record of one that was stopped early; it is on disk when this returns.
   *
   * @returns Whether it was kept: not where the lease ran out and another worker has the trial, or has finished it.
   */
  finish(claim: ClaimedTrial, record: StoredRecord | EndedJob): boolean {
    return this.#file.durably(() => {
      const sql = `UPDATE trial SET state = ?, lease = NULL WHERE ${HELD}`;
      if (this.#file.run(sql, endOf(record), ...heldBy(claim)) === 0) return false;
      const json = JSON.stringify(record);
      this.#file.run("INSERT INTO result (trial, record) VALUES (?, ?)", claim.number, json);
      this.#file.seal("result", claim.number, json);
      this.#file.run("UPDATE worker SET finished = finished + 1, trial = NULL WHERE owner = ?", claim.owner);
      return true;
    });
  }

  /** Marks a trial without a result as one that will have none. */
  close(digest: string, error: string): void {
    this.#file.run(
      "UPDATE trial SET state = 'failed', error = ?, lease = NULL WHERE digest = ? AND state IN ('waiting', 'running')",
      error,
      digest,
    );
  }

  /** Takes note of a worker of elsewhere, and of the trial that it is at. */
  see(owner: string, digest: string): void {
    const row = this.#file.get<{ number: number }>("SELECT number FROM trial WHERE digest = ?", digest);
    this.#file.run(TABLES.seen, owner, Date.now(), row?.number ?? null);
  }

  /** Releases the trials that a worker has taken and not finished. @returns How many trials wait again. */
  release(owner: string): number {
    return this.#file.transact(() => {
      this.#file.run("UPDATE worker SET trial = NULL WHERE owner = ?", owner);
      return this.#file.run(
        "UPDATE trial SET state = 'waiting', lease = NULL WHERE state = 'running' AND owner = ?",
        owner,
      );
    });
  }

  /** Keeps trials that ended elsewhere; those that the study holds a result of stay. @returns How many were taken in. */
  take(trials: readonly (ProposedTrial & { readonly record: StoredRecord | EndedJob })[]): number {
    this.add(trials);
    return this.#file.durably(() => {
      let taken = 0;
      for (const { digest, record } of trials) {
        const sql = "INSERT INTO result (trial, record) SELECT number, ? FROM trial WHERE digest = ? " +
          "ON CONFLICT (trial) DO NOTHING RETURNING trial";
        const json = JSON.stringify(record), kept = this.#file.get<{ trial: number }>(sql, json, digest);
        if (kept !== undefined) {
          this.#file.seal("result", kept.trial, json);
          this.#file.run(
            "UPDATE trial SET state = ?, lease = NULL, error = NULL WHERE digest = ?",
            endOf(record),
            digest,
          );
        }
        taken += Number(kept !== undefined);
      }
      return taken;
    });
  }

  count(): Counts {
    const sql = "SELECT state, count(*) AS n FROM trial GROUP BY state";
    const rows = this.#file.all<{ state: TrialState; n: number }>(sql);
    const counts = new Map(rows.map(({ state, n }) => [state, n]));
    return Object.fromEntries(TRIAL_STATES.map((state) => [state, counts.get(state) ?? 0])) as Counts;
  }

  owners(): string[] {
    const sql = "SELECT DISTINCT owner FROM trial WHERE state = 'running'";
    return this.#file.all<{ owner: string }>(sql).map(({ owner }) => owner);
  }

  /** Digests of the trials in a state: of those that failed, which will have no result. */
  digests(state: TrialState): string[] {
    const sql = "SELECT digest FROM trial WHERE state = ? ORDER BY number";
    return this.#file.all<{ digest: string }>(sql, state).map(({ digest }) => digest);
  }

  /** Trials that workers have, by when their leases run out, and when their workers were heard of. */
  held(): HeldTrial[] {
    return this.#file.all(
      "SELECT number, owner, lease AS untilMs, seen AS seenMs FROM trial JOIN worker USING (owner) WHERE state = 'running'",
    );
  }

  /** The proposals of the search of {@linkcode StudyStore.begin}, in order, from a place on. */
  proposals(from = 0): Proposal[] {
    const sql = "SELECT * FROM proposal WHERE number >= ? ORDER BY number";
    return this.#file.all<ProposalRow>(sql, from).map(({ number, point, digest, error }) => {
      this.#file.expectSealed("proposal", number, JSON.stringify([point, digest, error]));
      return { point: JSON.parse(point), digest, error };
    });
  }

  workers(): StoredWorker[] {
    return this.#file.all("SELECT owner, seen AS seenMs, finished, trial FROM worker ORDER BY owner");
  }

  trials(): StoredTrial[] {
    return this.#trialsWhere("TRUE ORDER BY number");
  }

  /**
   * Trials with results by a number of their records, the least first; of equal ones that which ended first.
   *
   * @param from Place of the first that is wanted, and `count` of how many.
   */
  ranked(
    name: string,
    isLeastFirst: boolean,
    from: number,
    count: number,
  ): { trial: StoredTrial; value: number }[] {
    const value = `record ->> '$.${name.replaceAll(/\W/g, "")}'`, order = isLeastFirst ? "ASC" : "DESC";
    const sql = `SELECT trial, ${value} AS value FROM result WHERE value IS NOT NULL ` +
      `ORDER BY value ${order}, sequence LIMIT ? OFFSET ?`;
    return this.#file.all<{ trial: number; value: number }>(sql, count, from).map(({ trial, value }) => {
      return { trial: this.#trialsWhere("number = ?", trial)[0]!, value };
    });
  }

  find(digest: string): StoredTrial | undefined {
    return this.#trialsWhere("digest = ?", digest)[0];
  }

  #trialsWhere(condition: string, ...values: SQLInputValue[]): StoredTrial[] {
    const sql = `SELECT number, digest, options, state, attempt, owner, error FROM trial WHERE ${condition}`;
    const rows = this.#file.all<StoredTrial & { options: string }>(sql, ...values);
    return rows.map((row) => ({ ...row, options: this.#file.parse("trial", row.digest, row.options) }));
  }

  /** Values of the chunks of a trial that are done, ascending. */
  chunks(number: number): ChunkValue[] {
    return this.#file.all(
      "SELECT chunk, loss, dense AS denseLoss FROM chunk WHERE trial = ? ORDER BY chunk",
      number,
    );
  }

  /** Checks the results that came since the last check. @throws {UsageError} If the content of one has changed. */
  #expectSoundResults(): void {
    const sql = "SELECT sequence, number, record FROM result JOIN trial ON trial = number " +
      "WHERE sequence > ? ORDER BY sequence LIMIT 1000";
    for (;;) {
      const rows = this.#file.all<ResultRow & { number: number }>(sql, this.#soundUpTo);
      for (const { sequence, number, record } of rows) {
        this.#file.expectSealed("result", number, record);
        if (sequence <= this.#soundUpTo) throw damagedStudy(this.path, "its results are out of order");
        this.#soundUpTo = sequence;
      }
      if (rows.length === 0) return;
    }
  }

  /** Records of finished trials, in the order in which they ended; those that were stopped early have no result. */
  finished<T extends Trial = Trial>(): T[] {
    return this.results<StoredRecord>().flatMap(({ record }) => "stopped" in record ? [] : [record as T]);
  }

  /** Records after the place in the order; from the beginning where none is given. */
  results<T extends StoredRecord = Trial>(after = 0): StoredResult<T>[] {
    this.#expectSoundResults();
    const sql = "SELECT sequence, record FROM result WHERE sequence > ? ORDER BY sequence";
    const rows = this.#file.all<ResultRow>(sql, after);
    return rows.map(({ sequence, record }) => ({ sequence, record: JSON.parse(record) }));
  }

  /** Some fields of every result, in the order of trials: for lists of many. */
  fields(names: readonly string[]): { readonly [name: string]: unknown }[] {
    this.#expectSoundResults();
    const columns = names.map((name) => `record ->> '$.${name.replaceAll(/\W/g, "")}' AS "${name}"`).join(
      ", ",
    );
    return this.#file.all(
      `SELECT trial.number, trial.state${
        columns && `, ${columns}`
      } FROM trial LEFT JOIN result ON trial = number ORDER BY number`,
    );
  }

  records<T extends Trial = Trial>(numbers: readonly number[]): T[] {
    this.#expectSoundResults();
    const sql = "SELECT record FROM result WHERE trial IN (SELECT value FROM json_each(?)) ORDER BY trial";
    const rows = this.#file.all<{ record: string }>(sql, JSON.stringify(numbers));
    return rows.map(({ record }) => JSON.parse(record));
  }

  #units<R extends string | Uint8Array>(condition: string, ...values: SQLInputValue[]): StoredUnit<R>[] {
    const isThere = this.#file.get("SELECT 1 FROM sqlite_schema WHERE name = 'unit'") !== undefined;
    const sql = `SELECT kind, key, record FROM unit WHERE ${condition} ORDER BY sequence`;
    return isThere ? this.#file.all(sql, ...values) : [];
  }

  countUnits(kind: string): number {
    return this.#units("kind = ?", kind).length;
  }

  /** Units of all kinds but those that are bytes, in the order in which they ended. */
  listUnits(): { readonly kind: string }[] {
    return this.#units<string>("typeof(record) = 'text'").map((row) => ({
      kind: row.kind,
      ...this.#parseUnit<object>(row),
    }));
  }

  /**
   * Units of work of a kind that are no trials: those that are finished, and where the next ones go. They are on disk when
   * `append` returns.
   *
   * @param keyOf Key of a unit, unique among the units of its kind.
   * @param isShared Whether another process may append the same unit: the first one stays. Default: that is an error.
   */
  units<T>(kind: string, keyOf: (unit: T) => string, isShared = false): FinishedRuns<T> {
    return {
      finished: this.#units<string>("kind = ?", kind).map((row) => this.#parseUnit<T>(row)),
      append: (...units) =>
        this.#keep(kind, units.map((unit) => [keyOf(unit), JSON.stringify(unit)]), isShared),
    };
  }

  #parseUnit<T>({ kind, key, record }: StoredUnit<string>): T {
    return this.#file.parse("unit", `${kind} ${key}`, record);
  }

  #keep(
    kind: string,
    units: readonly (readonly [key: string, record: string | Uint8Array])[],
    isShared = false,
  ): void {
    this.#file.durably(() => {
      this.#file.exec(TABLES.units);
      const sql = `INSERT ${isShared ? "OR IGNORE " : ""}INTO unit (kind, key, record) VALUES (?, ?, ?)`;
      for (const [key, record] of units) {
        const added = this.#file.run(sql, kind, key, record);
        if (added > 0) this.#file.seal("unit", `${kind} ${key}`, record);
      }
    });
  }

  /** The bytes that a unit is; undefined where there is no such unit. */
  readBytes(kind: string, key: string): Uint8Array | undefined {
    const [row] = this.#units<Uint8Array>("kind = ? AND key = ?", kind, key);
    if (row !== undefined) this.#file.expectSealed("unit", `${kind} ${key}`, row.record);
    return row?.record;
  }

  /** Keeps bytes as a unit; they are on disk when this returns. */
  writeBytes(kind: string, key: string, bytes: Uint8Array): void {
    this.#keep(kind, [[key, bytes]]);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

interface ClaimedRow extends Pick<ClaimedTrial, "number" | "digest" | "attempt"> {
  readonly options: string;
}

interface ProposalRow extends Omit<Proposal, "point"> {
  readonly number: number;
  readonly point: string;
}

interface ResultRow {
  readonly sequence: number;
  readonly record: string;
}

/** Settings of every study. */
const FACTS = { name: "string", conditions: "object", runDigest: "string", flags: "object" } satisfies {
  readonly [name in keyof StudyFacts]: string;
};

/** SQLite's name of a database without a file. */
const MEMORY = ":memory:";

function isThere(path: string): boolean {
  try {
    return Deno.lstatSync(path) !== undefined;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

const endOf = (record: object): TrialState => "stopped" in record ? "pruned" : "complete";

const HELD = "number = ? AND owner = ? AND attempt = ? AND state = 'running'";
const heldBy = ({ number, owner, attempt }: ClaimedTrial) => [number, owner, attempt] as const;
