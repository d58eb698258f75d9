/**
 * `deno task score`: the loss of every token of one sequence, with or without the filter.
 *
 * Made for comparisons with other engines: ids in, losses and masks out. See `deno task score --help`.
 */
import type { CacheDType } from "../../lib/dtype.ts";
import { UsageError } from "../../lib/errors.ts";
import { scoreSequence } from "../../lib/eval/sequence_score.ts";
import { DecisionRecorder } from "../../lib/heads/trace.ts";
import { createPruner } from "../../lib/methods/bind/create_pruner.ts";
import { nonCausal, type ResolvedOptions } from "../../lib/methods/bind/options.ts";
import { methodOf, ownRule } from "../../lib/methods/list.ts";
import { recordCalibration } from "../../lib/methods/protocol/calibration.ts";
import { isOffline } from "../../lib/methods/protocol/method.ts";
import type { ModelFile } from "../../lib/model/open.ts";
import { retrievalScores } from "../../lib/model/retrieval.ts";
import { recordTrace } from "../../lib/plot/plots/one_run/layer_trace.ts";
import { readVersion } from "../../lib/version.ts";
import { expectWritableFile, readJson, writeWhole } from "./cli/files.ts";
import { readMethod, tellHostRules } from "./cli/flags/method.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { integer, pick, rarely, text, under } from "./cli/flags/flag.ts";
import { RUN, TABLE, TEXT } from "./cli/flags/flags.ts";
import { METHOD } from "./cli/flags/method_flags.ts";
import { expectChoice, type FlagValues, textOf } from "./cli/flags/parse.ts";
import { withRule } from "./cli/flags/rule.ts";
import { readCount, readNamedText } from "./cli/flags/text.ts";
import { openBackend, readBackend } from "./cli/machine/backend.ts";
import { openModel, readModel, warnOfLength } from "./cli/machine/model.ts";
import { tellRetrieval, tryMethod } from "./cli/machine/retrieval.ts";
import { checkFlags, runCommand } from "./cli/task.ts";
import { expectReplayAlone, readReplay, type ScoreRun } from "./heads/replay.ts";
import { readTrace, traceBytes, type TraceInfo, traceInfo } from "./heads/trace_file.ts";
import { type Asked, singleCommand } from "./run.ts";
import {
  describeOutcome,
  meanPerplexity,
  measureOutcome,
  renderScorePage,
  SCORE_COLUMNS,
  type Scored,
  tabulateScores,
} from "./score/outcome.ts";

/** The tokens to score: of a text by the model's tokenizer, or of a file of ids. */
async function readSource(
  values: FlagValues,
  tokens: number | undefined,
): Promise<(file: Pick<ModelFile, "tokenizer" | "config">) => Int32Array<ArrayBuffer>> {
  const path = textOf(values, "ids");
  if ((path === undefined) === !values.has("text")) {
    throw new UsageError("Cannot tell what to score: expected either --text FILE or --ids FILE.json");
  }
  if (path === undefined) {
    const { text } = await readNamedText(textOf(values, "text"));
    return ({ tokenizer }) => {
      const ids = tokenizer.encode(text, { bos: tokenizer.addsBos }).slice(0, tokens);
      if (ids.length >= 2) return Int32Array.from(ids);
      throw new UsageError(`Cannot score a text of ${ids.length} tokens: expected at least 2`);
    };
  }
  const ids = await readJson(path);
  if (!Array.isArray(ids)) throw new UsageError(`Cannot use "${path}": expected a list of token ids`);
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  if (wrong >= 0) {
    throw new UsageError(
      `Cannot use "${path}": found ${JSON.stringify(ids[wrong])} at ${wrong}, expected a token id`,
    );
  }
  if (ids.length < 2) {
    throw new UsageError(`Cannot score "${path}": found ${ids.length} ids, expected at least 2`);
  }
  return ({ config: { vocabSize } }) => {
    const high = ids.findIndex((id) => id >= vocabSize);
    if (high < 0) return Int32Array.from(ids.slice(0, tokens));
    throw new UsageError(
      `Cannot use "${path}": found id ${ids[high]} at ${high}, expected ids below the model's ${vocabSize}`,
    );
  };
}

/** The scored sequences, and how they are fed. */
interface Feed {
  readonly runs: readonly ScoreRun[];
  readonly phase: "prefill" | "decode";
  /** Tokens per piece of a prefill; undefined = all at once. */
  readonly chunk: number | undefined;
  readonly cacheDType: CacheDType;
  readonly cacheByDefault?: boolean;
}

async function readFlags({ values }: Asked) {
  const path = textOf(values, "replay");
  if (path !== undefined) expectReplayAlone(values);
  const replayed = path === undefined ? undefined : { path, ...await readTrace(path) };
  const { dtype, products }: Partial<TraceInfo> = replayed?.info ?? {};
  // Flags with which a trace's model has the same numbers again.
  const kept = Object.entries({ dtype, matmul: products }).filter(([, value]) => value !== undefined);
  const asKept: FlagValues = new Map([...kept.map(([name, value]) => [name, [value]] as const), ...values]);
  const phase = expectChoice("phase", textOf(values, "phase") ?? "prefill", ["prefill", "decode"]);
  const chunk = readCount(values, "chunk", 1);
  const tokens = readCount(values, "tokens", 2);
  readCount(values, "context", 2);
  const method = await readMethod(values);
  const source = replayed === undefined ? await readSource(values, tokens) : undefined;
  const tracePath = textOf(values, "trace");
  if (tracePath !== undefined) expectTraceable(method, tracePath);
  if (method !== undefined && nonCausal(method) && phase === "decode") {
    throw new UsageError(
      `Cannot decode with ${method.fusion}, ${method.threshold}: it is non-causal, expected --phase prefill`,
    );
  }
  return { replayed, asKept, request: readBackend(asKept), phase, chunk, method, source, tracePath };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

/** Checks that a run has decisions, and a file to keep them. @throws {UsageError} If not. */
function expectTraceable(method: ResolvedOptions | undefined, path: string): void {
  if (method === undefined) throw new UsageError("Cannot use --trace: a dense run has no decisions");
  if (isOffline(methodOf(method.fusion))) {
    throw new UsageError(
      `Cannot use --trace with --method ${method.fusion}: it alters the model, and decides on no token`,
    );
  }
  expectWritableFile(path);
}

/** The sequences of a trace or of a text, the method not bound yet. */
function readFeed(flags: Flags, file: ModelFile, values: FlagValues): Feed {
  const { replayed, source, method, phase, chunk, request: { cacheDType, cacheByDefault } } = flags;
  if (replayed !== undefined) {
    const { runs, info } = readReplay(replayed.path, replayed, file);
    return {
      ...{ runs, phase: info.phase, chunk: info.piece ?? undefined },
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

async function plan(flags: Flags, { values, progress }: Asked) {
  const { asKept, method, request, tracePath } = flags, file = await readModel(asKept, progress);
  const feed = readFeed(flags, file, values), longest = Math.max(...feed.runs.map(({ ids }) => ids.length));
  warnOfLength(longest, file.config, `${longest} tokens`);
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, method === undefined ? [] : [method]);
  const model = openModel(file, backend, feed, feed.runs[0]!.ids, progress);
  const recorder = new DecisionRecorder(), record = recordTrace();
  if (method === undefined) return { ...feed, file, backend, model, method, tracePath, recorder, record };
  // A device that decodes by itself reports no decisions. A page of masks is no reason to decode on the host.
  const listeners = [
    ...tracePath === undefined ? [] : [recorder.trace],
    ...!values.has("out") || feed.phase === "decode" ? [] : [record.trace],
  ];
  const trace: typeof recorder.trace = (...decided) => listeners.forEach((listen) => listen(...decided));
  const { keyTrace } = recorder, keeps = tracePath !== undefined;
  const loaded = { ...file, model }, retrieval = retrievalScores(loaded);
  await tellRetrieval(progress, loaded, [method]);
  const context = { backend, retrieval, ...(listeners.length > 0 && { trace }), ...(keeps && { keyTrace }) };
  const bind = () => createPruner("token-filtering", file.config, method, context);
  const runs = feed.runs.map(({ ids }) => ({ ids, pruner: bind() }));
  return { ...feed, runs, file, backend, model, method, tracePath, recorder, record };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** Scores every sequence, with the method and then without it. */
async function work(plan: Plan, { progress }: Asked) {
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
  return { scored, isFiltered, record: describeScored(scored, plan) };
}

/** The content of `--json` and `score.json`. */
function describeScored(scored: Scored, { phase, backend }: Plan) {
  const { file, runs, scores } = scored, { layers, kvLayers, fedByHost } = scores[0]!, own = ownRule();
  return {
    ids: runs.flatMap(({ ids }) => [...ids]),
    nll: scores.flatMap(({ nll }) => [...nll]),
    perplexity: meanPerplexity(scores),
    keep: layers.map((_, i) => scores.flatMap(({ keep }) => [...keep[i]!])),
    layers,
    kvKeep: kvLayers.map((_, i) => scores.flatMap(({ kvKeep }) => [...kvKeep[i]!])),
    kvLayers,
    ...(own !== undefined && { rule: own.rule.name, ruleSha256: own.sha256 }),
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
  await writeWhole(tracePath, traceBytes(table, traceInfo(file, method, rest)));
}

export const command = singleCommand({
  name: "score",
  summary: "Prints the loss of every token of one sequence, and its perplexity.",
  usage: "--text FILE | --ids FILE.json | --replay TRACE [flags]",
  about: `Without a flag of the method the full model runs. With one both models run, and the end shows how
much was skipped, the loss increase and the savings; --out keeps a page of the text with the tokens that were
skipped. The sequence is not cut: --context has no effect here. --trace keeps the decisions. --replay repeats
those of an earlier run: with the same backend it gives the same losses.`,
  examples: [
    "--text FILE",
    "--text FILE --method learned --out results/score",
    "--ids FILE.json --preset paper --phase decode --json",
  ],
  flags: {
    ...under("What runs", {
      text: text("FILE", "text to score"),
      ids: text("FILE.json", "token ids as they are, instead of --text"),
      replay: text("FILE.parquet", "take the decisions of a trace again, on its tokens, instead of a method"),
    }),
    ...pick(TEXT, "tokens"),
    ...rarely({ context: { ...TEXT.context, help: "has no effect: the sequence is not cut" } }),
    ...RUN,
    ...METHOD,
    phase: text(
      "prefill|decode",
      "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
    ),
    ...rarely({ chunk: integer("tokens per piece of a prefill (all at once)") }),
    ...under("Results", {
      out: text("DIR", "folder for results (none)"),
      trace: text("FILE.parquet", "keep every decision, to be replayed"),
    }),
    ...TABLE,
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  read: readFlags,
  columns: () => SCORE_COLUMNS,
  plan,
  work,
  file: "score.json",
  json: ({ record }) => JSON.stringify(record),
  pages: ({ scored, isFiltered }, { method, record: recorded }) => ({
    ...(isFiltered && { "score.html": renderScorePage(scored, method, recorded.layers()) }),
  }),
  table: ({ scored }, { method }) => ({ ...tabulateScores(scored), notes: describeOutcome(scored, method) }),
});

if (import.meta.main) await runCommand(command);
