/** A study as a storage of Optuna, which its dashboard and its samplers open. */
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import { readMetric } from "../../../lib/eval/metrics.ts";
import { OPTIONS } from "../../../lib/methods/bind/option_table.ts";
import { effectiveOptions, readRecord } from "../../../lib/methods/bind/options.ts";
import { type Axis, isChoice, type NumberAxis } from "../../../lib/search/axis.ts";
import { BUDGETS } from "../../../lib/sweep/budgets.ts";
import type { ObjectiveName, SearchRequest, StoppedTrial, Trial } from "../../../lib/sweep/trial.ts";
import { Search } from "../../../lib/sweep/trials/search.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import type { StoredTrial, TrialState } from "../../../lib/sweep/trials/store_records.ts";
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

/** A parameter as Optuna keeps it: its distribution, and its values as numbers. */
interface Parameter {
  readonly json: string;
  readonly encode: (value: unknown) => number;
}

const describe = (name: string, attributes: object) => JSON.stringify({ name, attributes });

/** A categorical parameter with its values in order. Optuna's choices are plain values; a list becomes its text. */
function choiceOf(values: readonly unknown[]): Parameter {
  const choices = values.map((value) => JSON.stringify(value ?? null));
  const plain = choices.map((json) => json.startsWith("[") ? json : JSON.parse(json));
  return {
    json: describe("CategoricalDistribution", { choices: plain }),
    encode: (value) => choices.indexOf(JSON.stringify(value ?? null)),
  };
}

function rangeOf(isWhole: boolean, { low, high, log, step }: Omit<NumberAxis, "name">): Parameter {
  const attributes = { step: isWhole ? step : step || null, low, high, log };
  return {
    json: describe(isWhole ? "IntDistribution" : "FloatDistribution", attributes),
    encode: (value) => value as number,
  };
}

/** A parameter for an axis of a search, with the axis's range or choices. */
function parameterOfAxis(axis: Axis): Parameter {
  if (isChoice(axis)) return choiceOf(axis.choices);
  const { type } = OPTIONS[axis.name]!;
  return rangeOf(type === "integer" || type === "seed", axis);
}

/** A parameter for a listed option, with the values that occur. */
function parameterOfValues(values: readonly unknown[]): Parameter {
  const numbers = values.filter((value): value is number => typeof value === "number");
  if (numbers.length < values.length) return choiceOf(values);
  const whole = numbers.every(Number.isInteger), [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return rangeOf(whole, { low, high, log: false, step: whole ? 1 : 0 });
}

/** The parameters of a study's trials, and each trial's values of them. */
interface Points {
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly valuesOf: (trial: StoredTrial) => { readonly [name: string]: unknown };
}

/** The points of a search: its axes, and the values that it proposed for each trial. */
function pointsOfSearch(store: StudyStore, request: SearchRequest): Points {
  const search = new Search(request);
  // A sampler that needs no results makes the same proposals again.
  if (store.get("search") === undefined) search.list();
  else search.look(store);
  const points = new Map(search.proposals.toReversed().map(({ digest, point }) => [digest, point]));
  return {
    parameters: new Map(
      request.space.filter((axis) => !isChoice(axis) || axis.choices.length > 1)
        .map((axis) => [axis.name, parameterOfAxis(axis)]),
    ),
    valuesOf: ({ digest }) => points.get(digest) ?? {},
  };
}

/** The points of a list of trials: options that vary, of each trial those that have an effect. */
function pointsOfList(stored: readonly StoredTrial[], varying: readonly string[]): Points {
  const effective = new Map(stored.map(({ digest, options }) => {
    const own = effectiveOptions(readRecord(options)) as { readonly [name: string]: unknown };
    const isGiven = (name: string) =>
      name !== "kvRatio" || own.pruneRatio === undefined || own.kvRatio !== own.pruneRatio;
    const shown = varying.filter((name) => own[name] !== undefined && isGiven(name));
    return [digest, Object.fromEntries(shown.map((name) => [name, own[name]]))];
  }));
  const valuesOf = ({ digest }: StoredTrial) => effective.get(digest)!;
  const parameters = varying.flatMap((name) => {
    const values = new Map(
      stored.map((trial) => valuesOf(trial)[name]).filter((value) => value !== undefined)
        .map((value) => [JSON.stringify(value), value]),
    );
    return values.size === 0 ? [] : [[name, parameterOfValues([...values.values()])] as const];
  });
  return { parameters: new Map(parameters), valuesOf };
}

/** Objectives for Optuna: those of a search; else the loss, with the attention FLOPs where no race stops trials. */
function objectivesOf(store: StudyStore, search: SearchRequest | undefined): readonly ObjectiveName[] {
  if (search !== undefined) return search.objectives;
  return store.get("race") === undefined && store.count().pruned === 0
    ? ["loss", "attentionFlops"]
    : ["loss"];
}

/** A time as Optuna writes one. */
const showTime = (ms: number) => new Date(ms).toISOString().replace("T", " ").replace("Z", "000");

/**
 * Writes a study as one of Optuna's, which can continue there. It has the objectives, the axes with their ranges,
 * scales and steps, and each trial's values of its axes. `loss` is the task's headline. Values of chunks are
 * intermediate values.
 *
 * @returns How many trials were written.
 * @throws {UsageError} If the file is there already.
 */
export function writeOptuna(store: StudyStore, path: string): number {
  if (exists(path)) throw new UsageError(`Cannot write "${path}": it is there already`);
  const { headline, varying } = listShort(store), stored = store.trials();
  const search = store.get("search") ?? store.get("listed"), objectives = objectivesOf(store, search);
  const { parameters, valuesOf } = search === undefined
    ? pointsOfList(stored, varying)
    : pointsOfSearch(store, search);
  const ended = new Map(store.results<Trial | StoppedTrial>().map(({ record }) => [record.trial, record]));
  const valueOf = (name: ObjectiveName, record: Trial) =>
    name === "loss" ? readMetric(record, headline.name) : BUDGETS[name].retained(record);
  const part = `${path}.part`;
  {
    using db = new DatabaseSync(part);
    db.exec("PRAGMA journal_mode = MEMORY; BEGIN");
    db.exec(SCHEMA);
    const insert = (table: string, ...values: (string | number | null)[]) =>
      db.prepare(`INSERT INTO ${table} VALUES (NULL${", ?".repeat(values.length)})`).run(...values);
    insert("studies", store.facts.name);
    objectives.forEach((name, i) => {
      const isHigh = name === "loss" && headline.better === "higher";
      insert("study_directions", isHigh ? "MAXIMIZE" : "MINIMIZE", 1, i);
    });
    const names = objectives.map((name) => name === "loss" ? headline.name : BUDGETS[name].title);
    insert("study_system_attributes", 1, "study:metric_names", JSON.stringify(names));
    for (const [name, value] of Object.entries(store.conditions)) {
      insert("study_user_attributes", 1, name, JSON.stringify(value));
    }
    stored.forEach((trial, i) => {
      const id = i + 1, record = ended.get(trial.digest), values = valuesOf(trial);
      const measured = record === undefined || "stopped" in record
        ? []
        : objectives.map((name) => valueOf(name, record));
      // A complete trial of Optuna's has all its values: one whose task gave none has failed.
      const hasValues = measured.length > 0 && measured.every(Number.isFinite);
      const state = trial.state === "complete" && !hasValues ? "FAIL" : STATES[trial.state];
      const end = record && Date.parse("stopped" in record ? record.stoppedAt : record.finishedAt);
      const begin = end === undefined ? undefined : end - (record && "timeMs" in record ? record.timeMs : 0);
      insert("trials", i, 1, state, begin ? showTime(begin) : null, end ? showTime(end) : null);
      for (const [name, { json, encode }] of parameters) {
        if (Object.hasOwn(values, name)) insert("trial_params", id, name, encode(values[name]), json);
      }
      if (hasValues) measured.forEach((value, i) => insert("trial_values", id, i, value, "FINITE"));
      for (const { chunk, loss } of store.chunks(trial.number)) {
        insert("trial_intermediate_values", id, chunk, loss, "FINITE");
      }
      insert("trial_user_attributes", id, "trial", JSON.stringify(trial.digest));
      if (trial.error !== null) insert("trial_user_attributes", id, "error", JSON.stringify(trial.error));
    });
    db.exec("COMMIT");
  }
  Deno.renameSync(part, path);
  return stored.length;
}
