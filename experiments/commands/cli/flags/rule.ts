/** A rule of the user's own, from a file: `--rule FILE.ts`. */
import { UsageError } from "../../../../lib/errors.ts";
import { setOwnTasks } from "../../../../lib/eval/tasks/own_task.ts";
import type { ScoredToken } from "../../../../lib/methods/bind/custom_rule.ts";
import { KEY_READS, OWN_READS, type OwnRule, ownRules, setOwnRules } from "../../../../lib/methods/list.ts";
import { LATE_ROWS, type Reading, SIGNALS, VIEW_ROWS } from "../../../../lib/methods/protocol/signals.ts";
import type { LiveKeys } from "../../../../lib/methods/protocol/live_keys.ts";
import { type AnyRule, type EvictionMethod, isEviction } from "../../../../lib/methods/protocol/method.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { takeCalibration } from "./calibration.ts";
import { importFile, listPaths, readBytes } from "../files.ts";
import { type FlagValues, textOf } from "./parse.ts";
import { checkFlags } from "../task.ts";

const NAME = /^[a-z][\w-]*$/i;

/** The most frequent cause of a score that is no number: a field that a token does not have. */
const FIELDS =
  " (a token has id, text, layer, chunk, position, muK, varK, muV, varV, and what reads() lists: key, value, " +
  "residual, normed; with --side key also attention (with it distant) and change)";

/** Inputs that only tokens of the key side have. */
const OF_KEYS: readonly string[] = SIGNALS;

/** The signals that an eviction may read, of keys or of tokens. */
const READINGS: readonly string[] = [...SIGNALS, ...VIEW_ROWS, ...LATE_ROWS];

/** An eviction that a file exports: each row of its scores is checked as it comes. */
function expectEviction(
  exported: Omit<EvictionMethod, "name">,
  name: string,
  refuse: (what: string) => UsageError,
): EvictionMethod {
  const { help = "", reads, score, apart } = exported, shape = '[{ signal: "attention" }]';
  if (reads === undefined) throw refuse(`found an eviction without "reads", expected () => ${shape}`);
  if (apart !== undefined && !(apart >= 0 && apart <= 1)) {
    throw refuse(`found apart ${apart}, expected the fraction of the equal budget of each head, in [0, 1]`);
  }
  const read = (readings: readonly Reading[]) => {
    const wrong = readings.find(({ signal }) => !READINGS.includes(signal));
    if (wrong === undefined) return readings;
    const found = JSON.stringify(wrong.signal ?? wrong);
    throw refuse(`found ${found} in reads(), expected ${shape}, with signals of ${READINGS.join(", ")}`);
  };
  read(reads({ warmup: 0, recent: 1, block: 1 }));
  const scored = (live: LiveKeys) => {
    const place = `at token ${live.at} of layer ${live.layer}`, { length } = live.tokens;
    let rows: readonly Float64Array[];
    try {
      rows = score(live);
    } catch (error) {
      throw refuse(`it failed ${place}: ${(error as Error).message}`);
    }
    const isRight = Array.isArray(rows) && rows.length > 0 &&
      rows.every((row) => row?.length === length && !row.some(Number.isNaN));
    if (isRight) return rows;
    throw refuse(
      `found other scores ${place} than [row] of one number per token, expected ${length} in a row`,
    );
  };
  return { ...exported, name, help, reads: (spans) => read(reads(spans)), score: scored };
}

/** The rule or eviction that a file exports, checked as far as possible before it runs. */
async function expectRule(
  path: string,
  exported: { readonly [name: string]: unknown },
): Promise<OwnRule["rule"]> {
  const refuse = (what: string) => new UsageError(`Cannot use the rule in "${path}": ${what}`);
  // Either one object, or the module itself exports the object's parts.
  const rules = [exported, ...Object.values(exported)].filter((value) =>
    typeof value === "object" && value !== null && "score" in value
  ) as Partial<AnyRule>[];
  if (rules.length !== 1) {
    throw refuse(`found ${rules.length} exports with a "score", expected one: { name, help, score }`);
  }
  const { name, help = "", score, reads } = rules[0]!,
    other = ["options", "memory", "native"].find((key) => key in rules[0]!);
  if (typeof name !== "string" || !NAME.test(name)) {
    throw refuse(`found ${JSON.stringify(name) ?? "no"} name, expected letters, digits, - and _`);
  }
  if (typeof score !== "function") {
    throw refuse(`found a "score" that is ${typeof score}, expected a function`);
  }
  if (reads !== undefined && typeof reads !== "function") throw refuse('found "reads" that is no function');
  if (isEviction(rules[0] as AnyRule)) {
    return expectEviction(rules[0] as unknown as EvictionMethod, name, refuse);
  }
  if (other !== undefined) throw refuse(`found "${other}", which a rule in a file does not have`);
  const wrong = (reads?.({} as never) as readonly string[] | undefined)?.find((what) =>
    !(OWN_READS as readonly string[]).includes(what)
  );
  if (wrong !== undefined) {
    throw refuse(
      `found "${wrong}" in reads(), expected some of ${OWN_READS.join(", ")} (id and text need no entry)`,
    );
  }
  const { expectScore } = await import("../../../../lib/methods/bind/custom_rule.ts");
  const own = score as (token: ScoredToken, spec: unknown) => number;
  return {
    ...rules[0] as AnyRule,
    help,
    score: ((token: ScoredToken, spec: unknown) => {
      try {
        return expectScore(own(token, spec), token);
      } catch (error) {
        const { message } = error as Error;
        throw refuse(
          message.startsWith("Cannot score token ")
            ? `${message}${message.includes("found NaN") ? FIELDS : ""}`
            : `it failed at token ${token.position} of layer ${token.layer}: ${message}`,
        );
      }
    }) as never,
  };
}

/** SHA-256 of the files of code that flags name. */
interface FileDigests {
  readonly ruleSha256: string;
  readonly taskSha256: string;
}

/** Refuses a rule that reads what the filtered side does not have. */
function expectSide(rule: OwnRule["rule"], path: string, values: FlagValues): void {
  if (isEviction(rule)) return;
  const { name, reads } = rule;
  const side = textOf(values, "side"), inputs = reads?.({} as never) ?? [];
  const missing = inputs.filter((what) => !KEY_READS.includes(what)),
    signals = inputs.filter((what) => OF_KEYS.includes(what));
  if (side === "key" && missing.length > 0) {
    throw new UsageError(
      `Cannot use the rule in "${path}" with --side key: it reads ${missing.join(", ")}, expected some of ${
        KEY_READS.join(", ")
      } (leave --side key out)`,
    );
  }
  const isOfKeys = ["side", "kv-method"].some((flag) =>
    values.get(flag)?.some((value) => `,${value},`.includes(flag === "side" ? ",key," : `,${name},`))
  );
  if (signals.length === 0 || isOfKeys || values.has("preset") || values.has("grid")) return;
  throw new UsageError(
    `Cannot use the rule in "${path}": it reads ${
      signals.join(", ")
    }, which only keys and values have (add --side key)`,
  );
}

/**
 * Loads the files that flags name: the rules of `--rule` and the tasks of `--task-file`, each instead of those of an earlier
 * run, and the text of `--calibration`. A file of code runs with the rights of the task as soon as it is loaded.
 *
 * @param expect Looks at the digests of such files before any of them is loaded: `none` where there is no file.
 * @returns The names of the rules.
 * @throws {UsageError} If a file cannot be read or run, or exports no rule or task.
 */
export async function takeFiles(
  values: FlagValues,
  expect: (found: FileDigests) => void = () => {},
): Promise<readonly string[]> {
  setOwnRules([]);
  const paths = listPaths(textOf(values, "rule")), given = textOf(values, "task-file");
  const own = given === undefined ? undefined : await import("../../task/file.ts");
  const taskFiles = await own?.listTaskFiles(given) ?? [];
  const digestOf = async (path: string) => await sha256(await readBytes(path));
  const digests = await Promise.all(paths.map(digestOf));
  const taskDigests = await Promise.all(taskFiles.map(digestOf)),
    joined = (all: string[]) => all.join("+") || "none";
  expect({ ruleSha256: joined(digests), taskSha256: joined(taskDigests) });
  await takeCalibration(values);
  setOwnTasks([]);
  await own?.takeTaskFiles(taskFiles);
  const rules: OwnRule[] = [];
  for (const [i, path] of paths.entries()) {
    const sha256 = digests[i]!, rule = await expectRule(path, await importFile(path, sha256));
    expectSide(rule, path, values);
    rules.push({ rule, sha256 });
  }
  checkFlags(() => setOwnRules(rules));
  return rules.map(({ rule }) => rule.name);
}

/** Loads the files that flags name, and leaves the flags as they are. */
export async function withFiles(values: FlagValues): Promise<FlagValues> {
  await takeFiles(values);
  return values;
}

/** Adds `--method` with the rule of `--rule`, an eviction with `--side key`, to flags that name no method. @throws {UsageError} If there are several. */
export async function withRule(values: FlagValues): Promise<FlagValues> {
  const names = await takeFiles(values),
    isNamed = ["method", "preset", "grid"].some((flag) => values.has(flag));
  if (names.length === 0 || isNamed) return values;
  if (names.length > 1) {
    throw new UsageError(
      `Cannot use ${names.length} files of --rule: expected --method with one of ${names.join(", ")}`,
    );
  }
  const { rule } = ownRules()[0]!;
  return new Map([
    ...isEviction(rule) ? [["side", ["key"]] as const] : [],
    ...[...values, ["method", names] as const],
  ]);
}
