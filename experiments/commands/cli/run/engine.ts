/** A model that makes tokens: read, put on its backend, and bound to the method that was asked for. */
import { createPruner } from "../../../../lib/methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import type { ModelFile } from "../../../../lib/model/open.ts";
import { retrievalScores } from "../../../../lib/model/retrieval.ts";
import type { Budgeted } from "../../../../lib/sweep/compare/match.ts";
import { fitBudget } from "../../../../lib/sweep/fit_budget.ts";
import { tellRatio } from "../flags/budget.ts";
import { tellHostRules } from "../flags/method.ts";
import type { FlagValues } from "../flags/parse.ts";
import { type BackendRequest, openBackend } from "../machine/backend.ts";
import { openModel, readModel } from "../machine/model.ts";
import { tellRetrieval, tryMethod } from "../machine/retrieval.ts";
import type { Progress } from "../output/progress.ts";
import { checkFlags } from "../task.ts";

/** A budget, and the tokens on which the method is to have it. */
interface EngineBudget {
  readonly budgeted: Budgeted;
  idsOf(
    file: ModelFile,
    ids: Int32Array<ArrayBuffer>,
  ): Int32Array<ArrayBuffer> | Promise<Int32Array<ArrayBuffer>>;
}

/**
 * Opens a model; without a method, it is the full model.
 *
 * @param begin Returns the tokens that the model is tried on. It may refuse the request before anything is built.
 */
export async function openEngine(
  asked: { readonly values: FlagValues; readonly request: BackendRequest; readonly progress: Progress },
  requested: ResolvedOptions | undefined,
  begin: (file: ModelFile) => Int32Array<ArrayBuffer>,
  budget?: EngineBudget,
) {
  const { values, request, progress } = asked, file = await readModel(values, progress), ids = begin(file);
  if (requested !== undefined) checkFlags(() => tryMethod(file.config, requested));
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, requested === undefined ? [] : [requested]);
  const model = openModel(file, backend, request, ids, progress);
  const loaded = { ...file, model }, retrieval = retrievalScores(loaded);
  const method = requested && budget
    ? await fitBudget(loaded, [await budget.idsOf(file, ids)], requested, budget.budgeted)
    : requested;
  if (method !== undefined && budget !== undefined) tellRatio(progress, method);
  if (method !== undefined) await tellRetrieval(progress, loaded, [method]);
  const pruner = method && createPruner("token-filtering", file.config, method, { backend, retrieval });
  return { file, ids, backend, model, method, pruner };
}
