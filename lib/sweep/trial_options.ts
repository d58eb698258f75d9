/** The options of one trial: those of any method. */
import type { FilterShape } from "../filter/mod.ts";
import { createPruner, type Pruner, type PrunerContext, type ResolvedOptions } from "../methods/mod.ts";

export { resolveOptions as resolveTrialOptions } from "../methods/options.ts";
export type {
  MethodOptions as TrialOptions,
  OptionsRecord as TrialOptionsRecord,
  ResolvedOptions as ResolvedTrialOptions,
} from "../methods/options.ts";

/**
 * Binds a trial's options to a model's shape.
 *
 * @throws {RangeError} If the schedule is unreachable.
 */
export function createTrialPruner(
  shape: FilterShape,
  options: ResolvedOptions,
  context: PrunerContext = {},
): Pruner {
  return createPruner("token-filtering", shape, options, context);
}
