/** The requirements of a substitute on the other options, and its form for a model. */
import { showValue, wrongOption } from "../../filter/option.ts";
import { firstOutcome } from "../../filter/outcome.ts";
import type { FilterBackend } from "../../filter/sequence.ts";
import { policyOf } from "../../filter/threshold.ts";
import { type AnyRule, isRule, type Method } from "../protocol/method.ts";
import type { FilterOptions } from "../../filter/options.ts";
import type { Substitute } from "../protocol/pruner.ts";

interface SubstituteOptions extends FilterOptions {
  readonly features: readonly string[];
}

/** Tokens of a warm-up whose outcomes must count at least, where a local substitute's error is learned. */
const MIN_OUTCOMES = 16;
/** Tokens of a warm-up that must be there for a layer's ratio to follow from it. */
const MIN_WARMUP = 8;

/** Whether a method learns from outcomes of attention. */
export const learns = (method: Method): method is AnyRule =>
  isRule(method) && method.memory?.observe !== undefined;

/** A rule as a backend runs it under options: without its number where the kernels lack inputs that it needs. */
export function bindRule<R extends AnyRule>(
  rule: R,
  { substitute }: Pick<SubstituteOptions, "substitute">,
  backend?: Pick<FilterBackend, "knowsLocal">,
): R {
  const { native: _, ...onHost } = rule;
  return substitute === "local" && learns(rule) && !backend?.knowsLocal ? onHost as R : rule;
}

/** Checks substitute and schedule against the query side's other options. @throws {RangeError} If they do not go together. */
export function checkSubstitute(method: Method, options: SubstituteOptions): void {
  const { substitute, features, keyState, schedule, recent, sinks, warmup, threshold } = options;
  const refuse = (name: string, found: unknown, expected: string, why: string) => {
    throw wrongOption(name, showValue(found), `${expected} since ${why}`);
  };
  const isLocal = substitute === "local", allocates = schedule === "allocated";
  if (learns(method) && features.includes("local")) {
    if (!isLocal) refuse("substitute", substitute, "local", "the features include local");
    if (keyState !== "post-rope") refuse("keyState", keyState, "post-rope", "the features include local");
  }
  if (isLocal && recent === 0) refuse("recent", recent, "at least 1", "the substitute is local");
  if (isLocal && warmup < sinks) refuse("warmup", warmup, `at least ${sinks}`, `there are ${sinks} sinks`);
  if (allocates) {
    if (!isRule(method)) refuse("schedule", schedule, "another", `the method is "${method.name}"`);
    if (policyOf(options).whole || !policyOf(options).aims) {
      refuse("threshold", threshold, "one that aims at a ratio", "the schedule is allocated");
    }
    if (warmup < MIN_WARMUP) refuse("warmup", warmup, `at least ${MIN_WARMUP}`, "the schedule is allocated");
  }
  const needed = firstOutcome(options) + MIN_OUTCOMES;
  if (isLocal && (learns(method) || allocates) && warmup < needed) {
    const why = `a local substitute of ${sinks} sinks and ${recent} recent tokens has no error before`;
    refuse("warmup", warmup, `at least ${needed}`, why);
  }
}

export function substituteOf({ substitute, sinks, block }: SubstituteOptions): Substitute | undefined {
  return substitute === "none" ? undefined : { kind: substitute, sinks, block };
}
