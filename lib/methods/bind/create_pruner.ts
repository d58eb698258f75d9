/** Makes a method by its name: binds it and its options to a model's shape. */
import { expectOptions, expectTypeOf } from "../../errors.ts";
import { type OptionTable, wrongOption } from "../../filter/option.ts";
import { expectShape, type FilterShape } from "../../filter/sequence.ts";
import { sayNearest } from "../../nearest.ts";
import { FUSION_NAMES, keyMethodOf, type MethodName, methodOf } from "../list.ts";
import { isEviction, isOffline, isRule, type PrunerMethod } from "../protocol/method.ts";
import { CONTEXT, type HeadProbe, type Pruner, type PrunerContext } from "../protocol/pruner.ts";
import { withKeySide } from "./key_side.ts";
import { createOffline } from "./offline.ts";
import { type MethodOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { createShuffled } from "./replay.ts";
import { createRulePruner } from "./rule_pruner.ts";
import { filtersQueries, keyRuleOf } from "./sides.ts";

/**
 * Makes a method by name.
 *
 * @param name Method name, or "token-filtering" to use `options.fusion`.
 * @throws {TypeError} If an option or a part of the context is unknown, or of the wrong type.
 * @throws {RangeError} If there is no such method, a size or an option is out of range, the schedule is unreachable, or a
 * layer cannot have the substitute.
 *
 * @example
 * ```ts
 * import { createPruner } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createPruner("token-filtering", shape, { preset: "paper" });
 * console.assert(pruner.spans.recent === 0);
 * ```
 */
export function createPruner(
  name: MethodName | "token-filtering",
  model: FilterShape,
  options: MethodOptions = {},
  context: PrunerContext = {},
): Pruner {
  expectTypeOf("name", name, "string");
  const isNamed = name !== "token-filtering";
  if (isNamed && !FUSION_NAMES.includes(name)) {
    const known = ["token-filtering", ...FUSION_NAMES];
    throw new RangeError(`Cannot prune by "${name}": no such method${sayNearest(name, known)}`);
  }
  expectShape(model);
  expectOptions(context, CONTEXT);
  const asked = resolveOptions(isNamed ? { ...options, fusion: name } : options);
  const probe = headProbeOf(asked);
  // All heads with a score keep everything, as far as the ratio allows.
  const resolved = probe ? { ...asked, whole: "heads" as const, wholeFraction: 1 } : asked;
  const { whole } = resolved, isScored = whole === "auto" || whole === "heads";
  // Scores of a shape are those of the retrieval probe, so a method with a probe of its own does not take them.
  const given = probe === undefined ? model.retrieval : undefined;
  const retrieval = given ?? (isScored ? context.retrieval?.(probe ?? whole) : undefined);
  if (probe !== undefined && retrieval === undefined) {
    throw new RangeError(
      `Cannot evict by "${asked.kvFusion}" without scores of KV heads: expected a context with \`retrieval\``,
    );
  }
  const scored = model.numLayers * (whole === "heads" ? model.numKvHeads : 1);
  if (isScored && retrieval !== undefined && retrieval.length !== scored) {
    throw wrongOption("whole", `"${whole}" with ${retrieval.length} retrieval scores`, `${scored}`);
  }
  const shape = retrieval === undefined ? model : { ...model, retrieval };
  const method = methodOf(resolved.fusion);
  if (isOffline(method) && filtersQueries(resolved)) return createOffline(method, resolved, context);
  const queries = () =>
    isRule(method)
      ? createRulePruner("token-filtering", method, shape, resolved, context)
      : (method as PrunerMethod<string, OptionTable, never>).create(shape, resolved as never, context);
  const pruner = withKeySide(queries, shape, resolved, context);
  return resolved.shuffle ? createShuffled(shape, pruner, resolved) : pruner;
}

/** How the method of the key side finds heads that keep everything, where it has such a way of its own. */
function headProbeOf(options: ResolvedOptions): HeadProbe | undefined {
  const name = keyRuleOf(options), method = name && keyMethodOf(name);
  return method && isEviction(method) ? method.heads : undefined;
}
