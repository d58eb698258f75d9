/** Search spaces over the options of methods: the content of `--space FILE`, checked against the table of options. */
import { checkOption, showValue } from "../../filter/option.ts";
import { OPTIONS } from "../../methods/bind/option_table.ts";
import { sayNearest } from "../../nearest.ts";
import {
  type Axis,
  type Condition,
  isActive,
  isChoice,
  type NumberAxis,
  type SearchSpace,
} from "../../search/axis.ts";
import { listAlternatives, readOptionName } from "../space.ts";

/** Largest integer that JSON keeps. */
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** Keys that an axis may contain. */
const KEYS = ["choices", "low", "high", "log", "step", "when"];

type Given = { readonly [key: string]: unknown };

/** Whether a value is an object with names, and no list. */
const isRecord = (value: unknown): value is Given =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const refuse = (name: string, why: string) => new RangeError(`Cannot use axis "${name}": ${why}`);

/**
 * Reads a search space: an object whose keys are options, `pruneRatio` or `prune-ratio`. Each has one value, a list of
 * choices, or an axis: `{ choices }`, or `{ low, high }` with `log: true` where ratios count and `step` where values go
 * in steps. An axis may have `when`, an object of the values of other axes under which it is there:
 * `{ "fusion": "variance" }`.
 *
 * @returns The axes; those that conditions name come first.
 * @throws {TypeError | RangeError} If there is no such option, a value is out of its range, a range is empty, or a
 * condition names something that is no axis of choices. The message names the key.
 *
 * @example
 * ```ts
 * import { readSearchSpace } from "@tokenfilter/tokenfilter/sweep";
 * const space = readSearchSpace({
 *   fusion: ["variance", "mean"],
 *   tau: { low: 0.1, high: 8, log: true, when: { fusion: "variance" } },
 *   recent: { low: 0, high: 64, step: 16 },
 * });
 * console.assert(space.length === 3);
 * ```
 */
export function readSearchSpace(value: unknown): SearchSpace {
  if (!isRecord(value) || Object.keys(value).length === 0) {
    throw new TypeError(`Cannot use a search space: found ${showValue(value)}, expected an object of axes`);
  }
  const axes = new Map<string, Axis>();
  for (const [name, given] of Object.entries(value)) {
    const option = readOptionName(name, "axis");
    if (axes.has(option)) throw refuse(name, `found "${option}" twice, expected it once`);
    axes.set(option, readAxis(option, given));
  }
  return orderAxes(axes);
}

function readAxis(name: string, given: unknown): Axis {
  if (!isRecord(given)) return { name, choices: readChoices(name, given) };
  const wrong = Object.keys(given).find((key) => !KEYS.includes(key));
  if (wrong !== undefined) {
    throw refuse(name, `found "${wrong}", expected some of ${KEYS.join(", ")}${sayNearest(wrong, KEYS)}`);
  }
  const when = given["when"] === undefined ? {} : { when: readCondition(name, given["when"]) };
  const ranged = KEYS.slice(1, 5).find((key) => given[key] !== undefined);
  if (given["choices"] === undefined) return { name, ...readRange(name, given), ...when };
  if (ranged !== undefined) throw refuse(name, `found "choices" and "${ranged}", expected one of them`);
  return { name, choices: readChoices(name, given["choices"]), ...when };
}

function readChoices(name: string, given: unknown): readonly unknown[] {
  const option = OPTIONS[name]!,
    choices = listAlternatives(name, given).map((choice) => {
      checkOption(name, option, choice);
      if (typeof choice !== "bigint") return choice;
      if (choice <= MAX_SAFE) return Number(choice); // as JSON has it, in which searches are kept
      throw refuse(name, `found ${choice}, expected a seed of at most ${MAX_SAFE} in a search`);
    });
  const seen = new Set(choices.map(showValue));
  if (seen.size < choices.length) throw refuse(name, "found a choice twice, expected each once");
  return choices;
}

function readRange(name: string, { low, high, log = false, step }: Given): Omit<NumberAxis, "name" | "when"> {
  const option = OPTIONS[name]!, isWhole = option.type === "integer" || option.type === "seed";
  if (!isWhole && option.type !== "number") {
    throw refuse(name, "found a range, expected a list of choices: it is no number");
  }
  if (typeof low !== "number" || typeof high !== "number") {
    throw refuse(name, 'expected "low" and "high", two numbers, or "choices"');
  }
  checkOption(name, option, low);
  checkOption(name, option, high);
  if (low >= high) throw refuse(name, `found the empty range [${low}, ${high}], expected "low" below "high"`);
  if (typeof log !== "boolean") throw refuse(name, `found "log" ${showValue(log)}, expected true or false`);
  if (log && low <= 0) throw refuse(name, `found "log" from ${low} on, expected "low" above 0`);
  const least = step ?? (isWhole ? 1 : 0);
  if (typeof least !== "number" || step !== undefined && !(least > 0 && least <= high - low)) {
    throw refuse(name, `found "step" ${showValue(step)}, expected a number in (0, ${high - low}]`);
  }
  if (isWhole && !Number.isInteger(least)) {
    throw refuse(name, `found "step" ${least}, expected a whole number`);
  }
  if (log && step !== undefined) throw refuse(name, 'found "log" and "step", expected one of them');
  const steps = Math.floor((high - low) / least + 1e-9);
  return { low, high: least === 0 ? high : Number((low + steps * least).toPrecision(12)), log, step: least };
}

function readCondition(name: string, given: unknown): Condition {
  if (!isRecord(given) || Object.keys(given).length === 0) {
    throw refuse(name, `found "when" ${showValue(given)}, expected an object of other axes' values`);
  }
  return Object.fromEntries(
    Object.entries(given).map(([other, values]) => [
      readOptionName(other, `axis "${name}" when`),
      Array.isArray(values) ? values : [values],
    ]),
  );
}

/** Puts axes behind those that their conditions name, and checks these. */
function orderAxes(axes: ReadonlyMap<string, Axis>): Axis[] {
  for (const { name, when = {} } of axes.values()) {
    for (const [other, values] of Object.entries(when)) {
      const axis = axes.get(other);
      if (axis === undefined) {
        throw refuse(name, `its condition names "${other}", which is no axis of the space`);
      }
      if (!isChoice(axis)) {
        throw refuse(name, `its condition names "${other}", a range, expected an axis of choices`);
      }
      const lost = values.find((value) =>
        !isActive({ name, choices: [], when: { [other]: axis.choices } }, { [other]: value })
      );
      if (lost !== undefined || values.length === 0) {
        throw refuse(name, `its condition wants ${showValue(lost)}, which is no choice of "${other}"`);
      }
    }
  }
  const ordered: Axis[] = [], left = [...axes.values()];
  while (left.length > 0) {
    const next = left.findIndex(({ when = {} }) =>
      Object.keys(when).every((other) => ordered.some(({ name }) => name === other))
    );
    if (next < 0) throw refuse(left[0]!.name, "its conditions go round in a circle");
    ordered.push(...left.splice(next, 1));
  }
  return ordered;
}
