/** Objectives and limits of a search: from a trial's record to the observations that samplers use. */
import { ratioMiss, readRecord } from "../methods/options.ts";
import { sayNearest } from "../nearest.ts";
import type { Observation, Point } from "../search/axis.ts";
import { BUDGET_NAMES, BUDGETS } from "./budgets.ts";
import { excessLoss } from "./importance.ts";
import type { Limits, ObjectiveName, Trial } from "./trial.ts";

export const OBJECTIVE_NAMES: readonly ObjectiveName[] = ["loss", ...BUDGET_NAMES];

/** A name of an objective. @throws {RangeError} If it is none. */
export function readObjective(name: string): ObjectiveName {
  const plain = name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  const found = OBJECTIVE_NAMES.find((objective) => objective === plain);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot use objective "${name}": expected some of ${OBJECTIVE_NAMES.join(", ")}${
      sayNearest(name, OBJECTIVE_NAMES)
    }`,
  );
}

/** An objective's value of a finished trial, to be low. */
export function objectiveOf(name: ObjectiveName, trial: Trial): number {
  return name === "loss" ? excessLoss(trial) : BUDGETS[name].retained(trial);
}

/**
 * A finished trial as an observation of samplers. It violates the constraints by its excess over the limits, and by
 * more than two points between achieved and requested ratio: such a trial is in no ranking.
 */
export function observeTrial(
  point: Point,
  trial: Trial,
  objectives: readonly ObjectiveName[],
  limits: Limits,
): Observation {
  const over = Object.entries(limits).map(([name, most]) =>
    Math.max(0, objectiveOf(name as ObjectiveName, trial) - most)
  );
  return {
    point,
    state: "finished",
    values: objectives.map((name) => objectiveOf(name, trial)),
    violation: over.reduce((a, b) => a + b, ratioMiss(readRecord(trial), trial.achievedRatio)),
  };
}
