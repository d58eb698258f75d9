/** The fields that records must have: a file that was edited by hand is refused with the name of the wrong field. */
import { excessKeys, listMetrics } from "../eval/metrics.ts";
import type { Task } from "../eval/task.ts";
import { findWrongOption } from "../methods/bind/options.ts";

/** A field: its requirement in words, and whether a value meets it. */
export type Field = readonly [expected: string, holds: (value: unknown) => boolean];

export type Fields = { readonly [name: string]: Field };

const isNumber = (value: unknown) => typeof value === "number";
const isNumberOrNull = (value: unknown) => value === null || isNumber(value);
const isListOf = (holds: Field[1]) => (value: unknown) => Array.isArray(value) && value.every(holds);

/** Losses by blocks; records of older versions have none. */
const isBlocks = (value: unknown) => {
  if (value === undefined) return true;
  const { sums, sizes } = Object(value), isList = isListOf(isNumber);
  return isList(sums) && isList(sizes) && sums.length > 0 && sums.length === sizes.length;
};

/** Kinds of fields. JSON keeps no NaN: a number that could not be had is null. */
export const FIELD = {
  text: ["a text", (value) => typeof value === "string"],
  flag: ["true or false", (value) => typeof value === "boolean"],
  number: ["a number", isNumber],
  measured: ["a number or null", isNumberOrNull],
  numbers: ["a list of numbers", isListOf(isNumber)],
  measuredList: ["a list of numbers or nulls", isListOf(isNumberOrNull)],
  texts: ["a list of texts", isListOf((item) => typeof item === "string")],
  blocks: ["sums and sizes of blocks, as many", isBlocks],
  lossBlocks: ["sums and sizes of blocks, as many", (value) => value !== undefined && isBlocks(value)],
} as const satisfies Fields;

/** A field that may be left out. */
export const optional = ([expected, holds]: Field): Field => [
  `${expected}, or nothing`,
  (value) => value === undefined || holds(value),
];

/** Numbers of any task's results that tables and plots show. */
const COUNTS = "tokens kvBytesHeld kvBytesAvoided totalFlopsDense totalFlopsAvoided timeMs denseTimeMs".split(
  " ",
);

/** Fields of a trial of a task, next to its options: its identity and its measurements. */
export function trialFields(task: Task): Fields {
  const measured = [...listMetrics(task).map(({ name }) => name), excessKeys(task).dense, "achievedRatio"];
  return {
    trial: FIELD.text,
    fusion: FIELD.text,
    ...Object.fromEntries(COUNTS.map((name) => [name, FIELD.number])),
    ...Object.fromEntries(measured.map((name) => [name, FIELD.measured])),
    skipRatioPerLayer: FIELD.measuredList,
    lossBlocks: FIELD.blocks,
    nonCausal: FIELD.flag,
  };
}

/** Letters of a value that a message shows. */
const SHOWN = 80;

export function showFound(value: unknown): string {
  const json = JSON.stringify(value) ?? "nothing";
  return json.length > SHOWN ? `${json.slice(0, SHOWN)}…` : json;
}

/**
 * The fault of a record.
 *
 * @param fields The fields that it must have. Options that it has are checked in any case.
 * @returns `field "tau": found "x", expected a number in [0, 64]`; undefined where nothing is.
 */
export function findWrongField(record: object, fields: Fields): string | undefined {
  const values = new Map(Object.entries(record));
  for (const [name, [expected, holds]] of Object.entries(fields)) {
    const value = values.get(name);
    if (!holds(value)) {
      return `field "${name}": found ${showFound(value)}, expected ${expected}`;
    }
  }
  // A user's own rule has a name that is in no list.
  if (values.has("ruleSha256")) values.delete("fusion");
  const options = values.entries().map(([name, value]) => [name, findWrongOption(name, value)]);
  const [name, wrong] = options.find(([, wrong]) => wrong !== undefined) ?? [];
  return wrong && `field "${name}": ${wrong}`;
}
