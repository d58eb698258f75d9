/** Tables of a study's file, and how they are recognized. */

/** Tables and longer statements; `id` and `version` stand in the file's header. */
export const TABLES = {
  id: 0x544b4653,
  version: 3,
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
CREATE TABLE seal (
  place TEXT NOT NULL,
  key TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  PRIMARY KEY (place, key)
) WITHOUT ROWID;
PRAGMA application_id = ${0x544b4653};
PRAGMA user_version = 3;
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

const plain = (sql: string) => sql.replace("IF NOT EXISTS ", "").replaceAll(/\s+/g, " ").trim();

/** Statements by the name of the table or index that they create. */
const STATEMENTS: ReadonlyMap<string, string> = new Map(
  [TABLES.schema, TABLES.proposals, TABLES.units].join(";").split(";").flatMap((sql) => {
    const [, name] = sql.match(/CREATE (?:TABLE|INDEX) (?:IF NOT EXISTS )?(\w+)/) ?? [];
    return name === undefined ? [] : [[name, plain(sql)]];
  }),
);

/** Tables that are made where they are needed. */
const mayMiss = (name: string) => name === "proposal" || name === "unit";

/** The name of a table or index that is missing, or differs from a study's. */
export function findWrongTable(
  found: readonly { readonly name: string; readonly sql: string | null }[],
): string | undefined {
  const present = new Map(found.map(({ name, sql }) => [name, plain(sql ?? "")]));
  return [...new Set([...STATEMENTS.keys(), ...present.keys()])].find((name) =>
    present.has(name) ? present.get(name) !== STATEMENTS.get(name) : !mayMiss(name)
  );
}
