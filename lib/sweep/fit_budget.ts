/** A method at the ratio at which it retains a budget on given tokens. */
import { disposing } from "../disposing.ts";
import { addCounts } from "../eval/skip_ratio.ts";
import { createPruner } from "../methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../methods/bind/options.ts";
import { filtersQueries } from "../methods/bind/sides.ts";
import type { LoadedModel } from "../model/open.ts";
import { retrievalScores } from "../model/retrieval.ts";
import { type Retained, retainedOf } from "./budgets.ts";
import { findBudget, withRatio } from "./compare/match.ts";
import { presetName } from "./compare/controls.ts";
import { bindAt } from "./compare/method_runs.ts";

/**
 * Searches the ratio at which a method retains a fraction of the full model's cache, pairs or operations, within half a point
 * over all sequences together. Each try feeds every sequence once.
 *
 * @param sequences Token ids, one i32 array [tokens] for each sequence.
 * @param method As {@linkcode comparedMethods} gives it; its own ratio counts only as the proportion of its two sides.
 * @param budgeted What is matched: bytes of keys and values, pairs of a query and a key, or operations of attention; and the
 *   retained fraction, in (0, 1).
 * @returns The method at that ratio.
 * @throws {UsageError} If the method aims at no ratio, or cannot have the budget: the least that it can have is named.
 *
 * @example
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { comparedMethods, fitBudget } from "@tokenfilter/tokenfilter/sweep";
 * const file = await loadModel("tiny", new ReferenceBackend());
 * const ids = file.tokenizer.encode(await readBuiltinText()).slice(0, 200);
 * const [method] = comparedMethods(["tova"], { warmup: 8, recent: 8 });
 * const { kvRatio } = await fitBudget(file, [ids], method!.options, { match: "cache", target: 0.5 });
 * console.assert(kvRatio > 0.5);
 * ```
 */
export async function fitBudget(
  file: Pick<LoadedModel, "config" | "model" | "tokenizer">,
  sequences: readonly Int32Array<ArrayBuffer>[],
  method: ResolvedOptions,
  budgeted: { readonly match: "cache" | "pairs" | "flops"; readonly target: number },
): Promise<ResolvedOptions> {
  const { model, config } = file, { backend } = model;
  const context = { backend, retrieval: retrievalScores(file) };
  const spend = (options: ResolvedOptions): Promise<Retained | undefined> => {
    const pruner = bindAt(() => createPruner("token-filtering", config, options, context));
    if (pruner === undefined) return Promise.resolve(undefined);
    const usages = sequences.map((ids) =>
      disposing(model.start(pruner), (sequence) => {
        backend.free(sequence.feed(ids));
        return sequence.usage();
      })
    );
    return Promise.resolve(retainedOf(addCounts(usages)));
  };
  const name = presetName(method) ?? (filtersQueries(method) ? method.fusion : method.kvFusion);
  const { ratio } = await findBudget(name, method, budgeted, spend);
  return withRatio(method, ratio);
}
