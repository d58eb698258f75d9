/**
 * Our own scores of the requests of lm_eval_serve.py: the log-likelihood of each answer, in nats, as a JSON list.
 *
 * usage: deno run -A … lm_eval_scores.ts ASKED.json [flags of the method and the model, as `serve` has them]
 */
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { openBackend, readBackend } from "../../commands/cli/machine/backend.ts";
import { readMethod } from "../../commands/cli/flags/method.ts";
import { readModel } from "../../commands/cli/machine/model.ts";
import { parseFlags } from "../../commands/cli/flags/parse.ts";
import { Progress } from "../../commands/cli/output/progress.ts";

const [path, ...args] = Deno.args,
  values = parseFlags("serve", args, false),
  progress = new Progress(undefined);
const { dense, asked }: { dense: boolean; asked: { ids: number[]; start: number }[] } = JSON.parse(
  await Deno.readTextFile(path!),
);
const file = await readModel(values, progress);
const request = readBackend(values), backend = await openBackend(request, progress);
const method = await readMethod("serve", values),
  model = file.open(backend, { cacheDType: request.cacheDType });
const pruner = method === undefined || dense
  ? undefined
  : createPruner("token-filtering", file.config, method, { backend });
const sums = asked.map(({ ids, start }) => {
  const { nll } = scoreSequence(model, Int32Array.from(ids), pruner);
  return -nll.subarray(start - 1).reduce((sum, loss) => sum + loss, 0);
});
console.log(JSON.stringify(sums));
