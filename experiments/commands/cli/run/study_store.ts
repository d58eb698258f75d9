/** Opens the study of a folder of results: makes it or resumes it, and checks that its conditions are the run's. */
import process from "node:process";
import { UsageError } from "../../../../lib/errors.ts";
import { findTask, TASKS } from "../../../../lib/eval/tasks/mod.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import { findWrongField, trialFields } from "../../../../lib/sweep/fields.ts";
import type { RaceRequest, RunConditions, SearchRequest } from "../../../../lib/sweep/trial.ts";
import { digestConditions } from "../../../../lib/sweep/trials/digest.ts";
import { findWrongHeadline } from "../../../../lib/sweep/trials/result.ts";
import { StudyStore } from "../../../../lib/sweep/trials/store.ts";
import type {
  StoredRecord,
  StudyConditions,
  StudyFlags,
} from "../../../../lib/sweep/trials/store_records.ts";
import { STOPPED_FIELDS } from "../../../../lib/sweep/trials/trial_race.ts";
import { proposeTrials } from "../../../../lib/sweep/trials/trial_source.ts";
import { exists, listPaths } from "../files.ts";
import { findWrongTask } from "../../task/file.ts";
import type { FlagValues } from "../flags/parse.ts";
import { STUDY_FILE } from "./resume.ts";

/** Flags that define the runs of a study; values of `PATHS` are paths where such a file exists. */
const KEPT =
  ("model task task-file data items length data-seed filter-from text rule calibration calibration-domain " +
    "calibration-tokens context tokens backend cache-dtype wgmma dtype matmul memory").split(" ");
const PATHS = new Set(["model", "task-file", "data", "text", "rule", "calibration", "recipe"]);

const isList = (name: string) => name === "rule" || name === "task-file";

/** Given flags as a study keeps them; by default those by which a worker opens the same model and text. */
export function keepFlags(values: FlagValues, names: readonly string[] = KEPT): StudyFlags {
  return Object.fromEntries(
    names.filter((name) => values.has(name)).map((name) => {
      const value = String(values.get(name)![0]), own = isList(name) ? listPaths(value) : [value];
      return [name, PATHS.has(name) && own.every(exists) ? own.map(Deno.realPathSync).join(",") : value];
    }),
  );
}

/** The kept flags as those of a command line. */
export const flagValues = (flags: StudyFlags): FlagValues =>
  new Map(Object.entries(flags).map(([name, text]) => [name, [text]]));

/**
 * Whether the process that an owner names is known to have ended. A process of another machine or container may still
 * run, and its lease decides; so it does once this process has given up the permission for programs.
 *
 * @param owner As of {@linkcode ownerName}.
 */
export function hasEnded(owner: string): boolean {
  const [, pid, place] = owner.match(/^(\d+)-[^@]*@(.*)$/) ?? [];
  if (place !== ownPlace() || !Number.isSafeInteger(Number(pid))) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as { readonly code?: unknown }).code === "ESRCH";
  }
}

/** Has the trials of ended processes wait again. It needs the permission for programs, as {@linkcode hasEnded} does. */
export function releaseEnded(store: StudyStore): void {
  for (const owner of store.owners()) {
    if (hasEnded(owner)) store.release(owner);
  }
}

/** A unique name of a worker: its process, a random part, and the machine and namespace of the process. */
export function ownerName(): string {
  return `${Deno.pid}-${crypto.randomUUID().slice(0, 8)}@${ownPlace()}`;
}

let place: string | undefined;

/** The machine, and on Linux the namespace of processes: containers of one host name may each have their own. */
export function ownPlace(): string {
  return place ??= `${Deno.hostname()}${Deno.build.os === "linux" ? `/${readNamespace()}` : ""}`;
}

/** The namespace of processes, read by a child process: Deno reads /proc/self only with all permissions. */
function readNamespace(): string {
  try {
    const args = ["/proc/self/ns/pid"];
    const { stdout } = new Deno.Command("readlink", { args, stderr: "null" }).outputSync();
    return new TextDecoder().decode(stdout).replaceAll(/\D/g, "");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return "";
  }
}

/** Values of missing conditions. */
const BY_DEFAULT = {
  task: TASKS[0].name,
  taskSha256: "none",
  items: "none",
  ruleSha256: "none",
  calibrationSha256: "none",
  calibration: "none",
  dtype: "stored",
  products: "exact",
  filterFrom: "none",
  options: { fusion: "none" },
};

/** Conditions, as far as they are known. */
type Known = { readonly [name in keyof StudyConditions]?: unknown };

/** Conditions with the defaults of missing fields: a field that only one of two runs names differs too. */
export const completeConditions = (conditions: StudyConditions): Known => ({ ...BY_DEFAULT, ...conditions });

/** Compares conditions of runs that are there with those of now, as far as both have them. @throws {UsageError} If they differ. */
export function expectConditions(path: string, record: Known, known: Known): void {
  const list = ({ options, ...own }: Known) => Object.entries({ ...own, ...options as object });
  const shown = (value: unknown) => typeof value === "string" ? value : JSON.stringify(value);
  const ran = new Map(list(record));
  for (const [name, value] of list(known)) {
    const before = ran.get(name);
    if (before === undefined || shown(before) === shown(value)) continue;
    throw new UsageError(
      `Cannot go on with "${path}": its runs ran with ${name} ${shown(before)}, expected the same, ` +
        `found ${shown(value)} (repeat those flags, or take another --out)`,
    );
  }
}

/** @throws {UsageError} If the study's runs had other conditions. */
export function expectSameStudy(store: StudyStore, conditions: StudyConditions): void {
  expectConditions(store.path, completeConditions(store.conditions), completeConditions(conditions));
}

/** Checks that a folder's study, if it has one, ran under conditions, as far as these are known. @throws {UsageError} If it did not. */
export function expectStudyIn(folder: string | undefined, known: Known): void {
  const path = `${folder}/${STUDY_FILE}`;
  if (folder === undefined || !exists(path)) return;
  using store = StudyStore.open(path);
  expectConditions(path, completeConditions(store.conditions), known);
}

export const expectStudy = (folder: string | undefined) => (conditions: StudyConditions): void =>
  expectStudyIn(folder, completeConditions(conditions));

const SWEEP = "sweep";

/** Conditions of a sweep's study. @throws {UsageError} If it is another command's. */
export function expectSweep(store: StudyStore): RunConditions {
  expectCommand(store, SWEEP);
  return store.conditions as RunConditions;
}

function expectCommand(store: StudyStore, command: string): void {
  const own = store.get("command") ?? SWEEP;
  if (own === command) return;
  throw new UsageError(
    `Cannot use study "${store.path}" here: it is of deno task ${own}, expected one of deno task ${command}`,
  );
}

/** Opens the study of a command in a folder, or makes it. @throws {UsageError} If it ran under other conditions. */
export async function openStudyIn(
  folder: string,
  command: string,
  conditions: StudyConditions,
  values: FlagValues,
): Promise<StudyStore> {
  const path = `${folder}/${STUDY_FILE}`, flags = { ...keepFlags(values), backend: conditions.backend };
  if (!exists(path)) {
    const runDigest = await digestConditions(conditions), name = folder.split("/").at(-1)!;
    const facts = { name, conditions, runDigest, flags, command: command === SWEEP ? undefined : command };
    return StudyStore.create(path, facts);
  }
  const store = StudyStore.open(path);
  try {
    expectCommand(store, command);
    expectSameStudy(store, conditions);
    if (command === SWEEP) expectRecords(path, store.results<StoredRecord>().map(({ record }) => record));
    // A study that was made from a file of trials has no flags yet.
    if (Object.keys(store.flags).length === 0) store.set("flags", flags);
    return store;
  } catch (error) {
    store[Symbol.dispose]();
    throw error;
  }
}

/** The fault in a record of a trial, by its fields. */
export function findWrongRecord(record: StoredRecord): string | undefined {
  const wrong = findWrongTask(record);
  if (wrong !== undefined || "stopped" in record) return wrong ?? findWrongField(record, STOPPED_FIELDS);
  const task = findTask(record.task);
  return findWrongField(record, trialFields(task)) ?? findWrongHeadline(record, task);
}

/** @throws {UsageError} If a record of a stored trial has a fault: the file may be a stranger's. */
export function expectRecords(path: string, records: readonly StoredRecord[]): void {
  for (const record of records) {
    const wrong = findWrongRecord(record);
    if (wrong !== undefined) {
      throw new UsageError(`Cannot use study "${path}": its trial ${record.trial}, ${wrong}`);
    }
  }
}

export function removeStudy(store: StudyStore): void {
  store[Symbol.dispose]();
  for (const end of ["", "-wal", "-shm"]) {
    if (exists(store.path + end)) Deno.removeSync(store.path + end);
  }
}

/** Refuses another race than that in which trials were stopped. @throws {UsageError} Saying which it was. */
function expectSameRace(store: StudyStore, race: RaceRequest | undefined): void {
  const before = store.get("race"), stopped = store.count().pruned;
  if (stopped === 0 || before === undefined || JSON.stringify(before) === JSON.stringify(race)) return;
  throw new UsageError(
    `Cannot go on with "${store.path}": ${stopped} of its trials were stopped in a race, expected ` +
      `--race ${before.kind} --sampler-seed ${before.seed} (or take another --out)`,
  );
}

/**
 * Gives a study the trials of methods, or the search that makes them, and the race among them.
 *
 * @returns Digests of the methods' trials, in their order.
 */
export function beginTrials(
  store: StudyStore,
  methods: readonly ResolvedOptions[],
  search: SearchRequest | undefined,
  race: RaceRequest | undefined,
): string[] {
  expectSameRace(store, race);
  store.set("race", race);
  store.begin(search);
  const trials = proposeTrials(methods), digests = trials.map(({ digest }) => digest);
  store.add(trials, search === undefined ? digests : store.proposals().flatMap(({ digest }) => digest ?? []));
  return digests;
}
