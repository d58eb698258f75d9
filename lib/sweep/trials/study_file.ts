/** A study's file as SQLite has it: statements, transactions, and digests of the content. */
import { hash } from "node:crypto";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { damagedStudy, explainStoreError, LOCKED } from "./store_errors.ts";
import { TABLES } from "./store_tables.ts";

export interface StoreOptions {
  /** Milliseconds to wait for another process's write; default 20 s. */
  readonly timeoutMs?: number;
  /** Whether only counts and single rows are to be read: then the pages of the file are not checked one by one. */
  readonly isGlance?: boolean;
}

/** Every error of SQLite comes out of it in words that name the file and the fix. */
export class StudyFile implements Disposable {
  readonly path: string;
  /** Whether its content has digests: a store of version 1 has none. */
  hasSeals = true;
  readonly #db: DatabaseSync;
  readonly #timeoutMs: number;
  readonly #statements = new Map<string, StatementSync>();

  constructor(path: string, { timeoutMs = 20_000 }: StoreOptions) {
    this.path = path;
    this.#timeoutMs = timeoutMs;
    this.#db = guard(path, () => new DatabaseSync(path, { timeout: timeoutMs }));
  }

  get isStudy(): boolean {
    return this.get<{ application_id: number }>("PRAGMA application_id")!.application_id === TABLES.id;
  }

  get version(): number {
    return this.get<{ user_version: number }>("PRAGMA user_version")!.user_version;
  }

  /**
   * Sets the options of every connection. SQLite itself does not wait with a change to WAL while another process opens
   * the file.
   */
  configure(): void {
    guard(this.path, () => {
      for (const end = Date.now() + this.#timeoutMs;;) {
        try {
          return this.#db.exec("PRAGMA journal_mode = WAL");
        } catch (error) {
          if (!LOCKED.test((error as Error).message) || Date.now() > end) throw error;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
        }
      }
    });
    this.exec("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, statement = this.#db.prepare(sql));
    return statement;
  }

  /** The first row that a statement gives. */
  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return guard(this.path, () => this.#prepare(sql).get(...values) as Row | undefined);
  }

  /** All rows that a statement gives. */
  all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return guard(this.path, () => this.#prepare(sql).all(...values) as Row[]);
  }

  /** @returns How many rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return guard(this.path, () => Number(this.#prepare(sql).run(...values).changes));
  }

  /** Runs a change as one transaction that no other writer comes into. */
  transact<T>(change: () => T): T {
    return guard(this.path, () => {
      if (this.#db.isTransaction) return change();
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

  /** Keeps the digest of written content, by its table and key. */
  seal(place: string, key: string | number, content: string | Uint8Array): void {
    this.run("INSERT OR REPLACE INTO seal VALUES (?, ?, ?)", place, String(key), hash("sha256", content));
  }

  /** Checks that content is unchanged since it was written. @throws {UsageError} If it is not. */
  expectSealed(place: string, key: string | number, content: string | Uint8Array): void {
    if (!this.hasSeals) return;
    const sql = "SELECT sha256 FROM seal WHERE place = ? AND key = ?";
    if (this.get<{ sha256: string }>(sql, place, String(key))?.sha256 !== hash("sha256", content)) {
      throw damagedStudy(this.path, `${place} ${key} is not what was written`);
    }
  }

  /** A value that is kept as JSON. @throws {UsageError} If its content has changed. */
  parse<T>(place: string, key: string | number, json: string): T {
    this.expectSealed(place, key, json);
    try {
      return JSON.parse(json);
    } catch (error) {
      throw damagedStudy(this.path, `${place} ${key} cannot be read`, error);
    }
  }

  /** A transaction that is on disk when this returns. */
  durably<T>(change: () => T): T {
    this.exec("PRAGMA synchronous = FULL");
    try {
      return this.transact(change);
    } finally {
      this.exec("PRAGMA synchronous = NORMAL");
    }
  }

  exec(sql: string): void {
    guard(this.path, () => this.#db.exec(sql));
  }

  [Symbol.dispose](): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

function guard<T>(path: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw explainStoreError(path, error);
  }
}
