/** A rule of the user's own, from a file: `--rule FILE.ts`. */
import { UsageError } from "../../../../lib/errors.ts";
import { setOwnTask } from "../../../../lib/eval/own_task.ts";
import type { ScoredToken } from "../../../../lib/methods/bind/custom_rule.ts";
import { setOwnRule } from "../../../../lib/methods/list.ts";
import type { AnyRule } from "../../../../lib/methods/protocol/method.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { takeCalibration } from "./calibration.ts";
import { importFile, readBytes } from "../files.ts";
import { type FlagValues, textOf } from "./parse.ts";
import { checkFlags } from "../task.ts";

const NAME = /^[a-z][\w-]*$/i;

/** The most frequent cause of a score that is no number: a field that a token does not have. */
const FIELDS =
  " (a token has layer, position, muK, varK, muV, varV, and what reads() lists: key, value, residual, normed)";

/** The rule that a file exports, checked as far as possible before it runs. */
async function expectRule(path: string, exported: { readonly [name: string]: unknown }): Promise<AnyRule> {
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
  if (other !== undefined) throw refuse(`found "${other}", which a rule in a file does not have`);
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

/**
 * Loads the files that flags name: the rule of `--rule` and the task of `--task-file`, each instead of an earlier
 * run's, and the text of `--calibration`. A file of code runs with the rights of the task as soon as it is loaded.
 *
 * @param expect Looks at the digests of such files before any of them is loaded: `none` where there is no file.
 * @returns The rule's name, if there is one.
 * @throws {UsageError} If a file cannot be read or run, or exports no rule or task.
 */
export async function takeFiles(
  values: FlagValues,
  expect: (found: FileDigests) => void = () => {},
): Promise<string | undefined> {
  setOwnRule(undefined);
  const path = textOf(values, "rule"), taskFile = textOf(values, "task-file");
  const digestOf = async (path?: string) => path === undefined ? "none" : await sha256(await readBytes(path));
  const digest = await digestOf(path);
  expect({ ruleSha256: digest, taskSha256: await digestOf(taskFile) });
  await takeCalibration(values);
  setOwnTask(undefined);
  if (taskFile !== undefined) await (await import("../../task/file.ts")).takeTaskFile(taskFile);
  if (path === undefined) return undefined;
  const exported = await importFile(path, digest);
  const rule = await expectRule(path, exported);
  checkFlags(() => setOwnRule({ rule, sha256: digest }));
  return rule.name;
}

/** Loads the files that flags name, and leaves the flags as they are. */
export async function withFiles(values: FlagValues): Promise<FlagValues> {
  await takeFiles(values);
  return values;
}

/** Adds `--method` with the rule of `--rule` to flags that name no method. */
export async function withRule(values: FlagValues): Promise<FlagValues> {
  const name = await takeFiles(values),
    isNamed = values.has("method") || values.has("preset") || values.has("grid");
  return name === undefined || isNamed ? values : new Map([...values, ["method", [name]]]);
}
