/** Scores sequences: binds the method, feeds the model with it and without it, and keeps the decisions. */
import type { CacheDType } from "../../../lib/dtype.ts";
import { UsageError } from "../../../lib/errors.ts";
import { scoreSequence, type SequenceScore } from "../../../lib/eval/sequence_score.ts";
import { planDecisions } from "../../../lib/heads/replay_decisions.ts";
import { DecisionRecorder } from "../../../lib/heads/trace.ts";
import { createPruner } from "../../../lib/methods/bind/create_pruner.ts";
import { nonCausal, recordOptions } from "../../../lib/methods/bind/options.ts";
import { ownRules, ownRulesSha256 } from "../../../lib/methods/list.ts";
import { recordCalibration } from "../../../lib/methods/protocol/calibration.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { retrievalScores } from "../../../lib/model/retrieval.ts";
import { recordTrace } from "../../../lib/plot/plots/one_run/layer_trace.ts";
import { methodName } from "../../../lib/plot/trials/trial_label.ts";
import { fitBudget } from "../../../lib/sweep/fit_budget.ts";
import { readVersion } from "../../../lib/version.ts";
import { writeWhole } from "../cli/files.ts";
import { tellHostRules } from "../cli/flags/method.ts";
import { tellRatio } from "../cli/flags/budget.ts";
import type { FlagValues } from "../cli/flags/parse.ts";
import { openBackend } from "../cli/machine/backend.ts";
import { openModel, readModel, warnOfLength } from "../cli/machine/model.ts";
import { tellRetrieval, tryMethod } from "../cli/machine/retrieval.ts";
import { checkFlags } from "../cli/task.ts";
import { readReplay, type ScoreRun } from "../heads/replay.ts";
import type { Asked } from "../run.ts";
import type { Flags } from "./flags.ts";
import { meanPerplexity, measureOutcome, type Scored } from "./outcome.ts";

/** The scored sequences, and how they are fed. */
interface Feed {
  readonly runs: readonly ScoreRun[];
  readonly phase: "prefill" | "decode";
  /** Tokens per piece of a prefill; undefined = all at once. */
  readonly chunk: number | undefined;
  readonly cacheDType: CacheDType;
  readonly cacheByDefault?: boolean;
}

/** The sequences of a trace or of a text, the method not bound yet. */
function readFeed(flags: Flags, file: ModelFile, values: FlagValues): Feed {
  const { replayed, source, method, phase, chunk, request: { cacheDType, cacheByDefault } } = flags;
  if (replayed !== undefined) {
    const { path, info } = replayed;
    return {
      ...{ runs: readReplay(path, replayed, file), phase: info.phase, chunk: info.piece ?? undefined },
      cacheDType: values.has("cache-dtype") ? cacheDType : info.cacheDType,
    };
  }
  const ids = source!(file);
  if (method !== undefined) {
    checkFlags(() => tryMethod(file.config, method));
    if (nonCausal(method) && chunk !== undefined && chunk < ids.length) {
      throw new UsageError(
        `Cannot feed ${chunk} of ${ids.length} tokens at a time: ${method.fusion}, ${method.threshold} is non-causal (leave --chunk out)`,
      );
    }
  }
  return { runs: [{ ids, pruner: undefined }], phase, chunk, cacheDType, cacheByDefault };
}

export async function plan(flags: Flags, { values, progress }: Asked) {
  const { asKept, method: asked, request, tracePath, decisionsPath, budgeted } = flags,
    file = await readModel(asKept, progress);
  const feed = readFeed(flags, file, values), longest = Math.max(...feed.runs.map(({ ids }) => ids.length));
  warnOfLength(longest, file.config, `${longest} tokens`);
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, asked === undefined ? [] : [asked]);
  const model = openModel(file, backend, feed, feed.runs[0]!.ids, progress);
  const method = asked && budgeted
    ? await fitBudget({ ...file, model }, [feed.runs[0]!.ids], asked, budgeted)
    : asked;
  if (method !== asked) tellRatio(progress, method!);
  const recorder = new DecisionRecorder(), record = recordTrace();
  const opened = { file, backend, model, method, tracePath, decisionsPath, recorder, record };
  if (method === undefined) return { ...feed, ...opened };
  // A device that decodes by itself reports no decisions. A page of masks is no reason to decode on the host.
  const listeners = [
    ...tracePath === undefined && decisionsPath === undefined ? [] : [recorder.trace],
    ...!values.has("out") || feed.phase === "decode" ? [] : [record.trace],
  ];
  const trace: typeof recorder.trace = (...decided) => listeners.forEach((listen) => listen(...decided));
  const { keyTrace, rankTrace } = recorder;
  const kept = {
    ...((tracePath ?? decisionsPath) !== undefined && { keyTrace }),
    ...(decisionsPath !== undefined && { rankTrace }),
  };
  const loaded = { ...file, model }, retrieval = retrievalScores(loaded);
  await tellRetrieval(progress, loaded, [method]);
  const context = { backend, retrieval, ...(listeners.length > 0 && { trace }), ...kept };
  const bind = () => createPruner("token-filtering", file.config, method, context);
  const runs = feed.runs.map(({ ids }) => ({ ids, pruner: bind() }));
  return { ...feed, runs, ...opened };
}

export type Plan = Awaited<ReturnType<typeof plan>>;

/** Scores every sequence, with the method and then without it. */
export async function work(plan: Plan, { progress }: Asked) {
  const { runs, phase, chunk, file, model, backend } = plan;
  progress.start();
  const feed = { phase, ...(chunk !== undefined && { chunk }) };
  const isFiltered = runs[0]!.pruner !== undefined;
  const total = (isFiltered ? 2 : 1) * runs.reduce((sum, { ids }) => sum + ids.length, 0);
  let fed = 0;
  const scoreAll = (pruned: boolean) =>
    runs.map(({ ids, pruner }) => {
      const onFeed = (done: number) => progress.bar((fed + done) / total, `${fed + done}/${total} tokens`);
      const score = scoreSequence(model, ids, pruned ? pruner : undefined, { ...feed, onFeed });
      fed += ids.length;
      return score;
    });
  const scores = scoreAll(true);
  const scored: Scored = { file, runs, scores, dense: isFiltered ? scoreAll(false) : undefined };
  progress.clear();
  const { fedByHost } = scores[0]!;
  if (fedByHost !== undefined && backend.record !== undefined) {
    progress.line(`Decoded token by token from the host, not by recorded steps of the device: ${fedByHost}.`);
  }
  await keepTrace(plan);
  await keepDecisions(plan, scores);
  return { scored, isFiltered, record: describeScored(scored, plan) };
}

/** The content of `--json` and `score.json`. */
function describeScored(scored: Scored, { phase, backend }: Plan) {
  const { file, runs, scores } = scored, { layers, kvLayers, fedByHost } = scores[0]!, own = ownRules();
  return {
    ids: runs.flatMap(({ ids }) => [...ids]),
    nll: scores.flatMap(({ nll }) => [...nll]),
    perplexity: meanPerplexity(scores),
    keep: layers.map((_, i) => scores.flatMap(({ keep }) => [...keep[i]!])),
    layers,
    kvKeep: kvLayers.map((_, i) => scores.flatMap(({ kvKeep }) => [...kvKeep[i]!])),
    kvLayers,
    ...(own.length > 0 &&
      { rule: own.map(({ rule }) => rule.name).join("+"), ruleSha256: ownRulesSha256()! }),
    ...recordCalibration(),
    ...(file.dtype && { dtype: file.dtype }),
    ...(backend.products && { products: backend.products }),
    ...(phase === "decode" && { decodedOn: fedByHost === undefined ? "device" : "host" }),
    ...(runs.length > 1 && { lengths: runs.map(({ ids }) => ids.length) }),
    ...measureOutcome(scored),
  };
}

/** Writes the decisions where `--trace` needs them. */
async function keepTrace(plan: Plan): Promise<void> {
  const { tracePath, method, runs, phase, chunk, cacheDType, backend, file, recorder } = plan;
  if (tracePath === undefined || method === undefined) return;
  const rest = {
    version: await readVersion(),
    stream: "filtered",
    queries: runs.some(({ pruner }) =>
      pruner!.needs.some((need) => need === "queries" || need === "future outputs")
    ),
    phase,
    piece: chunk ?? null,
    cacheDType,
    heads: runs[0]!.pruner!.keySide?.heads,
    ...(backend.products && { products: backend.products }),
  } as const;
  const table = recorder.table(runs.map(({ ids }) => ids));
  const { traceBytes, traceInfo } = await import("../heads/trace_file.ts");
  await writeWhole(tracePath, traceBytes(table, traceInfo(file, method, rest)));
}

/** Writes the decisions where `--decisions` needs them. */
async function keepDecisions(
  { decisionsPath, method, runs, file, cacheDType, recorder, phase, chunk, backend: { products } }: Plan,
  scores: readonly SequenceScore[],
): Promise<void> {
  if (decisionsPath === undefined) return;
  const sequences = scores.map(({ layers, keep, kvLayers, kvEnds }, i) => ({
    ids: runs[i]!.ids,
    keep: new Map(layers.map((layer, j) => [layer, keep[j]!])),
    kvEnds: new Map(kvLayers.map((layer, j) => [layer, kvEnds[j]!])),
  }));
  const pruner = runs[0]!.pruner!, decisions = recorder.decisions(file.config, pruner, sequences);
  const fed = { phase, piece: chunk ?? null, cacheDType, ...(products && { products }) };
  const { writeDecisions } = await import("../heads/decisions_file.ts");
  const plan = planDecisions(pruner, recorder, sequences.length);
  await writeDecisions(decisionsPath, { file, ...fed }, [
    { name: methodName(recordOptions(method!)), options: method, decisions, plan },
  ]);
}
