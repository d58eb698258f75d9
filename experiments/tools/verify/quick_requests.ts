/**
 * The sequences behind the dense rows of the recipe `quick`, as JSON for harness_quick.py: token ids, where the scored part
 * begins, and our own log-likelihood of it.
 *
 * usage: deno run -A … quick_requests.ts [flags of `reproduce quick`]
 */
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { encodeStudy, encodeStudyItems } from "../../../lib/sweep/mod.ts";
import { parseFlags } from "../../commands/cli/flags/parse.ts";
import { readBackend } from "../../commands/cli/machine/backend.ts";
import { Progress } from "../../commands/cli/output/progress.ts";
import { planParts } from "../../commands/reproduce/parts.ts";
import { readRecipe } from "../../commands/reproduce/recipe.ts";

const values = parseFlags("reproduce", Deno.args, false), progress = new Progress(undefined);
const { parts } = await planParts(await readRecipe("quick"), {
  values,
  progress,
  request: readBackend(values),
});

/** Chunks of a text; llama.cpp's begin with BOS, and their second half is scored. */
function cut(ids: Int32Array<ArrayBuffer>, context: number, bosId: number | undefined, isHalf: boolean) {
  return Array.from({ length: Math.floor(ids.length / context) }, (_, i) => {
    const own = [...ids.subarray(i * context, (i + 1) * context)];
    return isHalf
      ? { ids: [bosId ?? own[0]!, ...own.slice(1)], start: context / 2 + 1 }
      : { ids: own, start: 1 };
  });
}

const found = parts.map(({ name, protocol, study }) => {
  const { model: { model, tokenizer }, context } = study, items = encodeStudyItems(study);
  const sequences = items === undefined
    ? cut(encodeStudy(study), context!, tokenizer.bosId, protocol.task === "perplexity_llama_cpp")
    : items.flatMap(({ requests }) =>
      requests.map(({ context, continuation }) => ({
        ids: [...context, ...continuation],
        start: context.length,
      }))
    );
  const scored = sequences.map(({ ids, start }) => {
    const { nll } = scoreSequence(model, Int32Array.from(ids));
    return { ids, start, own: -nll.subarray(start - 1).reduce((sum, loss) => sum + loss, 0) };
  });
  return { part: name, isText: items === undefined, sequences: scored };
});
console.log(JSON.stringify(found));
