/** The study of a folder of results, made, gone on with, or taken over from an older version's log. */
import process from "node:process";
import { UsageError } from "../../../lib/errors.ts";
import type { EvaluationTask } from "../../../lib/eval/mod.ts";
import type { ResolvedOptions } from "../../../lib/methods/mod.ts";
import {
  finishedTrials,
  proposeTrials,
  type RaceRequest,
  type RunConditions,
  RunLog,
  type SearchRequest,
  type StudyFlags,
  StudyStore,
  trialLines,
} from "../../../lib/sweep/mod.ts";
import { exists } from "./files.ts";
import { flagsOf } from "./flags.ts";
import type { FlagValues } from "./parse.ts";
import { completeConditions, expectConditions, STUDY_FILE } from "./study.ts";

/** File of finished trials of older versions. */
export const OLD_LOG = "trials.jsonl";

/** Flags that say what a study runs, and those of them that are paths where a file is there. */
const KEPT = [
  "model",
  "task",
  "text",
  "rule",
  "calibration",
  "calibration-domain",
  "calibration-tokens",
  "context",
  "tokens",
  "backend",
  "cache-dtype",
  "wgmma",
  "dtype",
  "products",
  "memory",
];
const PATHS = new Set(["model", "text", "rule", "calibration"]);

/** The flags by which a worker opens the same model and text. */
export function keepFlags(values: FlagValues): StudyFlags {
  return Object.fromEntries(
    KEPT.filter((name) => values.has(name)).map((name) => {
      const value = String(values.get(name)![0]);
      return [name, PATHS.has(name) && exists(value) ? Deno.realPathSync(value) : value];
    }),
  );
}

/** The same as a task's flags. */
export function flagValues(flags: StudyFlags): FlagValues {
  const known = flagsOf("sweep");
  return new Map(
    Object.entries(flags).map(([name, text]) => [
      name,
      [known[name]?.kind === "integer" ? Number(text) : text],
    ]),
  );
}

/**
 * Whether the process that an owner names has ended, as far as this machine can say: one of another machine, or of another
 * container, may be at work, and its lease decides.
 *
 * @param owner As of {@linkcode ownerName}.
 */
export function hasEnded(owner: string): boolean {
  const [, pid, host] = owner.match(/^(\d+)-[^@]*@(.*)$/) ?? [];
  if (host !== Deno.hostname() || !Number.isSafeInteger(Number(pid))) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as { readonly code?: unknown }).code === "ESRCH";
  }
}

/** A name that no other worker has: the process, a part that is drawn, and the machine. */
export function ownerName(): string {
  return `${Deno.pid}-${crypto.randomUUID().slice(0, 8)}@${Deno.hostname()}`;
}

/** What a study is opened for. */
export interface StudyRequest {
  readonly folder: string;
  readonly methods: readonly ResolvedOptions[];
  readonly task: EvaluationTask;
  readonly conditions: RunConditions;
  readonly runDigest: string;
  readonly flags: StudyFlags;
  /** What workers search, in place of a list of trials. */
  readonly search?: SearchRequest;
  /** The race that they hold. */
  readonly race: RaceRequest | undefined;
}

/**
 * Refuses a study or a log of other conditions.
 *
 * @throws {UsageError | RangeError} If what the folder holds ran under others, or cannot be read.
 */
export function expectStudy(
  folder: string,
  task: EvaluationTask,
  conditions: RunConditions,
  digest: string,
): void {
  const path = `${folder}/${STUDY_FILE}`;
  if (!exists(path)) {
    RunLog.read(`${folder}/${OLD_LOG}`, digest, trialLines(task));
    return;
  }
  using store = StudyStore.open(path);
  expectSameStudy(store, conditions);
}

/** @throws {UsageError} If a study's trials ran under other conditions. */
export function expectSameStudy(store: StudyStore, conditions: RunConditions): void {
  expectConditions(store.path, completeConditions(store.conditions), completeConditions(conditions));
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

/** Opens a folder's study with the trials of methods, whose digests it gives in their order. */
export async function openStudyStore(
  request: StudyRequest,
): Promise<{ store: StudyStore; digests: string[] }> {
  const { folder, methods, task, conditions, runDigest, flags, search, race } = request,
    path = `${folder}/${STUDY_FILE}`;
  const isNew = !exists(path);
  const store = isNew
    ? StudyStore.create(path, { name: folder.split("/").at(-1)!, conditions, runDigest, flags })
    : StudyStore.open(path);
  try {
    expectSameStudy(store, conditions);
    expectSameRace(store, race);
    store.set("race", race);
    store.begin(search);
    const trials = await proposeTrials(methods), digests = trials.map(({ digest }) => digest);
    const wanted = search === undefined ? digests : store.proposals().flatMap(({ digest }) => digest ?? []);
    store.add(trials, wanted);
    if (isNew) {
      const old = RunLog.read(`${folder}/${OLD_LOG}`, runDigest, trialLines(task));
      store.take(finishedTrials(old));
    }
    return { store, digests };
  } catch (error) {
    store[Symbol.dispose]();
    throw error;
  }
}
