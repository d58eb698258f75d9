/** Reads and checks files of results. A file that is none is refused with the reason in one line. */
import { UsageError } from "../../../../lib/errors.ts";
import { findTask } from "../../../../lib/eval/tasks/mod.ts";
import type { SiteEntry } from "../../../../lib/plot/reports/site.ts";
import { diffRuns, type RunResult } from "../../../../lib/sweep/compare/difference.ts";
import { FIELD, findWrongField, optional, trialFields } from "../../../../lib/sweep/fields.ts";
import type { RunConditions } from "../../../../lib/sweep/trial.ts";
import { STOPPED_FIELDS } from "../../../../lib/sweep/trials/trial_race.ts";
import { findWrongTask } from "../../task/file.ts";
import { readJson } from "../files.ts";

/** The file of each task, and the keys that it must have. */
const FILES = {
  "summary.json": { kind: "sweep", keys: ["trials", "dense", "environment"] },
  "heads.json": { kind: "heads", keys: ["layers", "overall", "environment"] },
  "compare.json": { kind: "compare", keys: ["methods", "intervals", "environment"] },
  "reproduce.json": { kind: "reproduce", keys: ["parts", "checks", "environment"] },
  "bench.json": { kind: "bench", keys: ["kernels", "lengths", "peak", "environment"] },
  "score.json": { kind: "score", keys: ["ids", "nll"] },
} as const;

type ResultFile = keyof typeof FILES;

/** Files that a page of a site is made of. */
export const SITE_RESULTS = Object.keys(FILES).filter((name) => name !== "score.json") as ResultFile[];

/** Files of which two can be compared side by side. */
export const RUN_RESULTS = ["summary.json", "compare.json", "score.json"] as const;

const COMPARED_FIELDS = {
  name: FIELD.text,
  achievedRatio: FIELD.measured,
  loss: FIELD.number,
  lossBlocks: FIELD.blocks,
};
const SCORE_FIELDS = {
  ids: FIELD.numbers,
  nll: FIELD.numbers,
  lengths: optional(FIELD.numbers),
  denseNll: optional(FIELD.numbers),
};

type Data = { readonly [key: string]: unknown };

/** The first fault in the records of a result: `trial 3, field "tau": found …`. */
function findWrongRecord(kind: (typeof FILES)[ResultFile]["kind"], data: Data): string | undefined {
  if (kind === "score") return findWrongField(data, SCORE_FIELDS);
  if (kind === "reproduce") {
    if (!Array.isArray(data.parts) || data.parts.length === 0) return 'found no list of "parts"';
    for (const [i, part] of (data.parts as readonly { readonly comparison?: Data }[]).entries()) {
      const wrong = part?.comparison === undefined
        ? 'found no "comparison"'
        : findWrongRecord("compare", part.comparison);
      if (wrong !== undefined) return `part ${i + 1}: ${wrong}`;
    }
  }
  if (kind !== "sweep" && kind !== "compare") return undefined;
  const environment = data.environment as Partial<RunConditions>, wrong = findWrongTask(environment);
  if (wrong !== undefined) return wrong;
  const task = findTask(environment.task);
  const own = kind === "sweep"
    ? ["trials", "trial", trialFields(task), data.trials] as const
    : ["methods", "method", COMPARED_FIELDS, data.methods] as const;
  const stopped = ["stopped", "stopped trial", STOPPED_FIELDS, data.stopped ?? []] as const;
  for (const [key, noun, fields, records] of [own, stopped]) {
    if (!Array.isArray(records)) return `found no list of "${key}"`;
    for (const [i, record] of (records as readonly Data[]).entries()) {
      const wrong = findWrongField({ ...record }, fields);
      if (wrong !== undefined) return `${noun} ${i + 1}, ${wrong}`;
    }
  }
}

/** Reads a file of results. @throws {UsageError} If it is none, naming file and field. */
async function readResult<T extends { readonly kind: string }>(
  path: string,
  file: ResultFile,
  name: string,
  check: (result: T) => void,
): Promise<T> {
  const { kind, keys } = FILES[file], data = await readJson(path) as Data | null;
  const missing = keys.find((key) => typeof data?.[key] !== "object" || data[key] === null);
  const refuse = (why: string) =>
    new UsageError(`Cannot use "${path}": ${why}, expected what deno task ${kind} writes`);
  if (missing !== undefined) throw refuse(`found no "${missing}"`);
  try {
    const wrong = findWrongRecord(kind, data!);
    if (wrong !== undefined) throw refuse(wrong);
    const result = { kind, name, data } as unknown as T;
    check(result);
    return result;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse(error.message);
  }
}

/** A result of a folder, as a page of a site. @throws {UsageError} If it cannot be one, naming file and field. */
export async function readEntry(folder: string, file: ResultFile): Promise<SiteEntry> {
  const { renderSite } = await import("../../../../lib/plot/reports/site.ts");
  const name = (await Deno.realPath(folder)).split(/[/\\]/).at(-1)!;
  return await readResult<SiteEntry>(`${folder}/${file}`, file, name, (entry) => renderSite([entry]));
}

/** A result to set next to another one. @throws {UsageError} If it is none, naming file and field. */
export async function readRun(
  path: string,
  file: (typeof RUN_RESULTS)[number],
  name: string,
): Promise<RunResult> {
  return await readResult<RunResult>(path, file, name, (run) => diffRuns(run, run));
}
