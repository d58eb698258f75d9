/** The one schema of a trial's result, wherever it comes from: a queue, a log, or the file of a study. */
import { readMetric } from "../../eval/metrics.ts";
import type { Task, TaskResult } from "../../eval/task.ts";
import type { BlockSums } from "../../stats/paired.ts";
import {
  FIELD,
  type Field,
  type Fields,
  findWrongField,
  optional,
  showFound,
  trialFields,
} from "../fields.ts";
import type { ProposedTrial, StudyFacts } from "./store_records.ts";
import { STOPPED_FIELDS } from "./trial_race.ts";
import { CONDITION_NAMES } from "../trial.ts";

const { number, measured, measuredList, text, flag } = FIELD;

/** Fields of every task's results; the compiler misses one that is not here. */
const RESULT = {
  ...{ achievedRatio: measured, achievedRatioWithWarmup: number, skipRatioPerLayer: measuredList },
  ...{ kvAchievedRatio: measured, tokens: number, scoredTokens: number, timeMs: number, denseTimeMs: number },
  ...{ kvBytesHeld: number, kvBytesAvoided: number, kvBytesAllocated: number, lossBlocks: FIELD.lossBlocks },
  ...{ queriesDense: number, queriesSkipped: number, pairsDense: number, pairsAvoided: number },
  ...{ projectionFlopsDense: number, projectionFlopsAvoided: number, parametersDense: number },
  ...{ attentionFlopsDense: number, attentionFlopsAvoided: number, parametersAvoided: number },
  ...{ totalFlopsDense: number, totalFlopsAvoided: number, wholeLayers: optional(FIELD.numbers) },
  ...{ wholeHeads: optional(FIELD.texts), dropRatioPerLayer: optional(measuredList) },
} satisfies { readonly [name in keyof Required<TaskResult>]: Field };

/** A trial whose result is expected, and the study that asked for it. */
export type AskedTrial = ProposedTrial & Pick<StudyFacts, "conditions" | "runDigest">;

/** A field that must be a value, or be left out where that is undefined. */
const same = (value: unknown): Field => {
  const json = JSON.stringify(value);
  return [json ?? "nothing", (found) => JSON.stringify(found) === json];
};

/**
 * The fault of a result from another process: it is not of the requested trial, a field is invalid, or its headline
 * does not follow from its losses.
 *
 * @returns `field "model": found "a", expected "b"`; undefined where nothing is.
 */
export function findWrongResult(
  record: unknown,
  task: Task,
  { digest, options, conditions, runDigest }: AskedTrial,
): string | undefined {
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    return `found ${showFound(record)}, expected a record`;
  }
  const isStopped = "stopped" in record, none = CONDITION_NAMES.map((name) => [name, undefined]);
  const { options: _, ...run } = conditions;
  const known = { ...Object.fromEntries(none), ...run, ...options, trial: digest, runDigest };
  const asked = Object.fromEntries(Object.entries(known).map(([name, value]) => [name, same(value)]));
  const fields: Fields = {
    ...{ ...asked, nonCausal: flag, deno: text },
    ...isStopped
      ? { ...STOPPED_FIELDS, stoppedAt: text }
      : { ...trialFields(task), ...RESULT, finishedAt: text },
    ...asked,
  };
  return findWrongField(record, fields) ?? findUnknownField(record, fields) ?? findTooLong(record) ??
    (isStopped ? undefined : findWrongHeadline(record, task));
}

/** A field that no result has: it would be kept, and shown on pages. */
function findUnknownField(record: object, fields: Fields): string | undefined {
  const odd = Object.keys(record).find((name) => !Object.hasOwn(fields, name));
  return odd &&
    `field "${odd.slice(0, 80)}": found ${showFound(record[odd as keyof typeof record])}, expected none`;
}

/** Characters of a result as JSON, its losses left out: 200 layers take about 10,000. */
const MOST_LENGTH = 2 ** 20;

function findTooLong(record: object): string | undefined {
  const { length } = JSON.stringify({ ...record, lossBlocks: undefined, chunkLosses: undefined });
  return length > MOST_LENGTH ? `found ${length} characters, expected at most ${MOST_LENGTH}` : undefined;
}

/** Tolerance between a headline and its value from the losses, which are kept to eight digits. */
const TOLERANCE = 1e-5;

/** The fault of a record's headline compared with its losses, which records of older versions do not have. */
export function findWrongHeadline(record: object, { headline }: Task): string | undefined {
  const { lossBlocks } = record as { readonly lossBlocks?: BlockSums };
  if (lossBlocks === undefined) return undefined;
  const { sums, sizes } = lossBlocks;
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const found = readMetric(record, headline.name), expected = headline.fromLoss(sum(sums) / sum(sizes));
  const agrees = Number.isFinite(expected)
    ? Math.abs(found - expected) <= TOLERANCE * Math.max(1, Math.abs(expected))
    : Number.isNaN(found); // JSON has no infinity
  if (agrees) return undefined;
  return `field "${headline.name}": found ${found}, expected what its losses come to, ${
    Number(expected.toPrecision(8))
  }`;
}
