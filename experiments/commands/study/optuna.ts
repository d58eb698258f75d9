/** A study as a storage of Optuna, which its dashboard and its samplers open. */
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import type { StudyStore, TrialState } from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { listShort } from "./open.ts";

/** The tables of Optuna 5.0 (`optuna/storages/_rdb/models.py`, schema 12). */
const SCHEMA = `
CREATE TABLE studies (study_id INTEGER NOT NULL PRIMARY KEY, study_name VARCHAR(512) NOT NULL);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE TABLE version_info (version_info_id INTEGER NOT NULL PRIMARY KEY CHECK (version_info_id = 1),
  schema_version INTEGER, library_version VARCHAR(256));
CREATE TABLE study_directions (study_direction_id INTEGER NOT NULL PRIMARY KEY, direction VARCHAR(8) NOT NULL,
  study_id INTEGER NOT NULL REFERENCES studies (study_id), objective INTEGER NOT NULL, UNIQUE (study_id, objective));
${
  ["study", "trial"].flatMap((of) =>
    ["user", "system"].map((kind) =>
      `CREATE TABLE ${of}_${kind}_attributes (${of}_${kind}_attribute_id INTEGER NOT NULL PRIMARY KEY,
  ${of}_id INTEGER REFERENCES ${of === "study" ? "studies" : "trials"} (${of}_id), "key" VARCHAR(512),
  value_json TEXT, UNIQUE (${of}_id, "key"));`
    )
  ).join("\n")
}
CREATE TABLE trials (trial_id INTEGER NOT NULL PRIMARY KEY, number INTEGER,
  study_id INTEGER REFERENCES studies (study_id), state VARCHAR(8) NOT NULL, datetime_start DATETIME,
  datetime_complete DATETIME);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE TABLE trial_params (param_id INTEGER NOT NULL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
  param_name VARCHAR(512), param_value FLOAT, distribution_json TEXT, UNIQUE (trial_id, param_name));
CREATE TABLE trial_values (trial_value_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), objective INTEGER NOT NULL, value FLOAT,
  value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, objective));
CREATE TABLE trial_intermediate_values (trial_intermediate_value_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), step INTEGER NOT NULL, intermediate_value FLOAT,
  intermediate_value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, step));
CREATE TABLE trial_heartbeats (trial_heartbeat_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL UNIQUE REFERENCES trials (trial_id), heartbeat DATETIME NOT NULL);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO version_info VALUES (1, 12, '5.0.0');
INSERT INTO alembic_version VALUES ('v3.2.0.a');
`;

const STATES: { readonly [state in TrialState]: string } = {
  waiting: "WAITING",
  running: "RUNNING",
  complete: "COMPLETE",
  pruned: "PRUNED",
  failed: "FAIL",
};

/** An option as a parameter: its distribution, and its values as Optuna keeps them. */
function parameterOf(
  values: readonly unknown[],
): { readonly json: string; readonly encode: (value: unknown) => number } {
  const numbers = values.filter((value): value is number => typeof value === "number");
  if (numbers.length < values.length) {
    const choices = [...new Set(values.map((value) => JSON.stringify(value ?? null)))];
    // Optuna's choices are plain values; a list is its text.
    const plain = choices.map((json) => json.startsWith("[") ? json : JSON.parse(json));
    return {
      json: JSON.stringify({ name: "CategoricalDistribution", attributes: { choices: plain } }),
      encode: (value) => choices.indexOf(JSON.stringify(value ?? null)),
    };
  }
  const whole = numbers.every(Number.isInteger), [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return {
    json: JSON.stringify({
      name: whole ? "IntDistribution" : "FloatDistribution",
      attributes: { step: whole ? 1 : null, low, high, log: false },
    }),
    encode: (value) => value as number,
  };
}

/**
 * Writes a study as one of Optuna's with two objectives: the task's headline, and the share of attention's operations that
 * is spent. Parameters are the options that vary; values of chunks are intermediate values.
 *
 * @throws {UsageError} If the file is there already.
 */
export function writeOptuna(store: StudyStore, path: string): void {
  if (exists(path)) throw new UsageError(`Cannot write "${path}": it is there already`);
  const { headline, trials, varying } = listShort(store), stored = store.trials();
  const finishedAt = new Map(
    store.fields(["finishedAt"]).map((row) => [row.number, row.finishedAt as string | null]),
  );
  const parameters = varying.map((name) => ({
    name,
    ...parameterOf([...new Set(trials.map((t) => t.options[name]))]),
  }));
  const part = `${path}.part`;
  {
    using db = new DatabaseSync(part);
    db.exec("PRAGMA journal_mode = MEMORY; BEGIN");
    db.exec(SCHEMA);
    const insert = (table: string, ...values: (string | number | null)[]) =>
      db.prepare(`INSERT INTO ${table} VALUES (NULL${", ?".repeat(values.length)})`).run(...values);
    insert("studies", store.facts.name);
    insert("study_directions", headline.better === "lower" ? "MINIMIZE" : "MAXIMIZE", 1, 0);
    insert("study_directions", "MINIMIZE", 1, 1);
    const names = JSON.stringify([headline.name, "share of attention's operations"]);
    insert("study_system_attributes", 1, "study:metric_names", names);
    for (const [name, value] of Object.entries(store.conditions)) {
      insert("study_user_attributes", 1, name, JSON.stringify(value));
    }
    trials.forEach((trial, i) => {
      const id = i + 1, ended = finishedAt.get(trial.number)?.replace("T", " ").replace("Z", "000") ?? null;
      // A complete trial of Optuna's has all its values: one whose task gave none has failed.
      const hasValues = trial.value !== undefined && trial.spent !== undefined;
      const state = trial.state === "complete" && !hasValues ? "FAIL" : STATES[trial.state as TrialState];
      insert("trials", i, 1, state, state === "WAITING" ? null : ended, ended);
      for (const { name, json, encode } of parameters) {
        insert("trial_params", id, name, encode(trial.options[name]), json);
      }
      if (hasValues) {
        insert("trial_values", id, 0, trial.value!, "FINITE");
        insert("trial_values", id, 1, trial.spent!, "FINITE");
      }
      for (const { chunk, loss } of store.chunks(trial.number)) {
        insert("trial_intermediate_values", id, chunk, loss, "FINITE");
      }
      insert("trial_user_attributes", id, "trial", JSON.stringify(stored[i]!.digest));
      if (stored[i]!.error !== null) {
        insert("trial_user_attributes", id, "error", JSON.stringify(stored[i]!.error));
      }
    });
    db.exec("COMMIT");
  }
  Deno.renameSync(part, path);
}
