/** What a study's file is made of. */
import type { Environment } from "../environment.ts";
import type { DenseTaskResult } from "../eval/task.ts";
import type { SearchRequest } from "./search.ts";
import type { StudyFacts } from "./store_records.ts";
import type { RaceRequest } from "./trial_race.ts";

/** Settings of a study, each one JSON. */
export interface Settings extends StudyFacts {
  /** When the study began, ISO 8601. */
  readonly began: string;
  /** The dense model's result, of the worker that had it first. */
  readonly dense: DenseTaskResult;
  /** Where that was measured. */
  readonly environment: Environment;
  /** The search whose proposals workers make and run; none where all trials are listed. */
  readonly search: SearchRequest;
  /** The race that workers hold among the trials, if one is. */
  readonly race: RaceRequest;
  /** What the study's trials are known by in a queue, where they went to one. */
  readonly queued: string;
}

/** Tables and longer statements; `id` and `version` stand in the file's header. */
export const TABLES = {
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
