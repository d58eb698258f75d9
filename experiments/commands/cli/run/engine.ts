/** A model that makes tokens: read, put on its backend, and bound to the method that was asked for. */
import { createPruner } from "../../../../lib/methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import type { ModelFile } from "../../../../lib/model/open.ts";
import { retrievalScores } from "../../../../lib/model/retrieval.ts";
import { tellHostRules } from "../flags/method.ts";
import type { FlagValues } from "../flags/parse.ts";
import { type BackendRequest, openBackend } from "../machine/backend.ts";
import { openModel, readModel } from "../machine/model.ts";
import { tellRetrieval, tryMethod } from "../machine/retrieval.ts";
import type { Progress } from "../output/progress.ts";
import { checkFlags } from "../task.ts";

/**
 * Opens a model; without a method, it is the full model.
 *
 * @param begin Returns the tokens that the model is tried on. It may refuse the request before anything is built.
 */
export async function openEngine(
  asked: { readonly values: FlagValues; readonly request: BackendRequest; readonly progress: Progress },
  method: ResolvedOptions | undefined,
  begin: (file: ModelFile) => Int32Array<ArrayBuffer>,
) {
  const { values, request, progress } = asked, file = await readModel(values, progress), ids = begin(file);
  if (method !== undefined) checkFlags(() => tryMethod(file.config, method));
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, method === undefined ? [] : [method]);
  const model = openModel(file, backend, request, ids, progress);
  const loaded = { ...file, model }, retrieval = retrievalScores(loaded);
  if (method !== undefined) await tellRetrieval(progress, loaded, [method]);
  const pruner = method && createPruner("token-filtering", file.config, method, { backend, retrieval });
  return { file, ids, backend, model, pruner };
}
