/** Decisions of the methods of a comparison: each runs over the text once more, at the ratio that it was compared at. */
import { cutChunks, yieldToEventLoop } from "../../../lib/eval/chunks/chunks.ts";
import type { TaskTypes } from "../../../lib/eval/task.ts";
import type { DecidedSequence } from "../../../lib/heads/decisions.ts";
import { planDecisions } from "../../../lib/heads/replay_decisions.ts";
import { DecisionRecorder } from "../../../lib/heads/trace.ts";
import { createPruner } from "../../../lib/methods/bind/create_pruner.ts";
import { readRecord } from "../../../lib/methods/bind/options.ts";
import { retrievalScores } from "../../../lib/model/retrieval.ts";
import type { Comparison } from "../../../lib/sweep/compare/comparison.ts";
import { encodeStudy, measureStudy, type Study } from "../../../lib/sweep/study.ts";
import { type MethodDecisions, writeDecisions } from "../heads/decisions_file.ts";

/**
 * Runs every method, of random its first seed, over the chunks of the text, and writes what it decides.
 *
 * @param onChunk Called after each.
 * @throws The signal's reason, if it is aborted.
 */
export async function keepDecisions(
  path: string,
  study: Study<TaskTypes>,
  { methods }: Pick<Comparison, "methods">,
  { signal, onChunk }: { readonly signal: AbortSignal; readonly onChunk: (label: string) => void },
): Promise<void> {
  const { model, config } = study.model, retrieval = retrievalScores(study.model);
  const chunks = cutChunks(encodeStudy(study), measureStudy(study).context);
  const decided: MethodDecisions[] = [];
  for (const { name, options: record } of methods) {
    if (record === null) continue;
    const recorder = new DecisionRecorder(), { trace, keyTrace, rankTrace } = recorder;
    const options = readRecord(record), context = { backend: model.backend, retrieval };
    const pruner = createPruner("token-filtering", config, options, {
      ...context,
      trace,
      keyTrace,
      rankTrace,
    });
    const sequences: DecidedSequence[] = [];
    for (const [chunk, ids] of chunks.entries()) {
      await yieldToEventLoop();
      signal.throwIfAborted();
      using sequence = model.start(pruner, { chunk });
      model.backend.free(sequence.feed(ids));
      onChunk(`decisions of ${name}`);
      sequences.push({ ids, keep: sequence.keep, kvEnds: sequence.kvEnds });
    }
    const plan = planDecisions(pruner, recorder, sequences.length);
    decided.push({ name, options, plan, decisions: recorder.decisions(config, pruner, sequences) });
  }
  const { backend: { products }, cacheDType } = model;
  const fed = { phase: "prefill", piece: null, cacheDType, ...(products && { products }) } as const;
  await writeDecisions(path, { file: study.model, ...fed }, decided);
}
