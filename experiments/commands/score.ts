/**
 * `deno task score`: the loss of every token of one sequence, with or without the filter.
 *
 * Made for comparisons with other engines: ids in, losses and masks out. See `deno task score --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { scoreSequence } from "../../lib/eval/mod.ts";
import { DecisionRecorder } from "../../lib/heads/mod.ts";
import type { Tokenizer } from "../../lib/model/mod.ts";
import {
  createPruner,
  isOffline,
  looksAhead,
  methodOf,
  ownRule,
  recordCalibration,
} from "../../lib/methods/mod.ts";
import { readVersion } from "../../lib/sweep/mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { expectWritable, expectWritableFile, makeFolder, readJson, writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { readMethod, tellHostRules } from "./cli/method.ts";
import { openModel, readModel, warnOfLength } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { withRule } from "./cli/rule.ts";
import { printTable, readTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";
import {
  describeOutcome,
  meanPerplexity,
  measureOutcome,
  renderScorePage,
  SCORE_COLUMNS,
  type Scored,
  tabulateScores,
} from "./score/outcome.ts";
import { recordTrace } from "../../lib/plot/mod.ts";
import { expectReplayAlone, readReplay, type ScoreRun } from "./heads/replay.ts";
import { readTrace, type TraceInfo, traceInfo, writeTrace } from "./heads/trace_file.ts";

export const USAGE = describeTask(
  "score",
  `deno task score --text FILE | --ids FILE.json | --replay TRACE [flags]

Prints the loss of every token of one sequence, and its perplexity. Without a flag of the method the model runs dense;
with one it runs both ways, and the end says what was skipped, what it cost and what it saved; --out keeps a page of the
text with the tokens that were skipped. The sequence is not cut: --context has no effect here. --trace
keeps the decisions, --replay takes those of an earlier run, or of heads, again: with the same backend it gives the same
losses.`,
  [
    "--text FILE",
    "--text FILE --fusion learned --out results/score",
    "--ids FILE.json --preset paper --phase decode --json",
  ],
);

/** What is to be scored, a text or ids as they are: its ids by a model's tokenizer. */
async function readSource(
  values: FlagValues,
  tokens: number | undefined,
): Promise<(tokenizer: Tokenizer) => Int32Array<ArrayBuffer>> {
  const path = values.get("ids")?.[0] as string | undefined;
  if ((path === undefined) === !values.has("text")) {
    throw new UsageError("Cannot tell what to score: expected either --text FILE or --ids FILE.json");
  }
  if (path === undefined) {
    const { text } = await readNamedText(values);
    return (tokenizer) => {
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
  return ({ vocabSize }) => {
    const high = ids.findIndex((id) => id >= vocabSize);
    if (high < 0) return Int32Array.from(ids.slice(0, tokens));
    throw new UsageError(
      `Cannot use "${path}": found id ${ids[high]} at ${high}, expected ids below the model's ${vocabSize}`,
    );
  };
}

function readPhase(values: FlagValues): "prefill" | "decode" {
  const phase = values.get("phase")?.[0] ?? "prefill";
  if (phase === "prefill" || phase === "decode") return phase;
  throw new UsageError(`Cannot use --phase "${phase}": expected prefill or decode`);
}

/** The flags that give a trace's model its numbers again. */
function modelFlags({ dtype, products }: Pick<TraceInfo, "dtype" | "products"> = {}): FlagValues {
  return new Map([
    ...(dtype === undefined ? [] : [["dtype", [dtype]] as const]),
    ...(products === undefined ? [] : [["products", [products]] as const]),
  ]);
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = await withRule(parseFlags("score", args, false));
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const replayed = values.get("replay")?.[0] as string | undefined;
  if (replayed !== undefined) expectReplayAlone(values);
  const kept = replayed === undefined ? undefined : await readTrace(replayed);
  const asKept: FlagValues = new Map([...modelFlags(kept?.info), ...values]);
  const request = readBackend(asKept);
  let phase = readPhase(values);
  let chunk = readCount(values, "chunk", 1);
  const tokens = readCount(values, "tokens", 2);
  const table = readTable(values, SCORE_COLUMNS);
  readCount(values, "context", 2);
  const method = await readMethod("score", values);
  const source = replayed === undefined ? await readSource(values, tokens) : undefined;
  const folder = values.get("out")?.[0] as string | undefined;
  if (folder !== undefined) expectWritable(folder);
  const tracePath = values.get("trace")?.[0] as string | undefined;
  if (tracePath !== undefined) {
    if (method === undefined) throw new UsageError("Cannot use --trace: a dense run has no decisions");
    if (isOffline(methodOf(method.fusion))) {
      throw new UsageError(
        `Cannot use --trace with --fusion ${method.fusion}: it alters the model, and decides on no token`,
      );
    }
    expectWritableFile(tracePath);
  }
  if (method !== undefined && looksAhead(method) && phase === "decode") {
    throw new UsageError(
      `Cannot decode with ${method.fusion}, ${method.threshold}: it looks ahead, expected --phase prefill`,
    );
  }

  const file = await readModel(asKept, progress);
  let runs: readonly ScoreRun[], cacheDType = request.cacheDType;
  if (source === undefined) {
    const { runs: read, info } = readReplay(replayed!, kept!, file);
    runs = read;
    phase = info.phase;
    if (!values.has("cache-dtype")) cacheDType = info.cacheDType;
    chunk = info.piece ?? undefined;
  } else {
    const ids = source(file.tokenizer);
    runs = [{ ids, pruner: undefined }];
    if (method !== undefined) {
      checkFlags(() => createPruner("token-filtering", file.config, method));
      if (looksAhead(method) && chunk !== undefined && chunk < ids.length) {
        throw new UsageError(
          `Cannot feed ${chunk} of ${ids.length} tokens at a time: ${method.fusion}, ${method.threshold} looks ahead (leave --chunk out)`,
        );
      }
    }
  }
  const longest = Math.max(...runs.map(({ ids }) => ids.length));
  warnOfLength(longest, file.config, `${longest} tokens`);

  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, method === undefined ? [] : [method]);
  const model = openModel(file, backend, { cacheDType }, runs[0]!.ids, progress);
  const recorder = new DecisionRecorder(), record = recordTrace();
  if (method !== undefined) {
    // A device that decodes by itself reports no decisions: a page of masks is no reason to decode on the host.
    const listeners = [
      ...tracePath === undefined ? [] : [recorder.trace],
      ...folder === undefined || phase === "decode" ? [] : [record.trace],
    ];
    const trace: typeof recorder.trace = (...decided) => listeners.forEach((listen) => listen(...decided));
    const { keyTrace } = recorder, keeps = tracePath !== undefined;
    const context = { backend, ...(listeners.length > 0 && { trace }), ...(keeps && { keyTrace }) };
    runs = runs.map(({ ids }) => ({
      ids,
      pruner: createPruner("token-filtering", file.config, method, context),
    }));
  }
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
  const scores = scoreAll(true),
    scored: Scored = { file, runs, scores, dense: isFiltered ? scoreAll(false) : undefined };
  progress.clear();
  const { layers, kvLayers, fedByHost } = scores[0]!, own = ownRule();
  if (fedByHost !== undefined && backend.record !== undefined) {
    progress.line(`Decoded token by token from the host, not by recorded steps of the device: ${fedByHost}.`);
  }
  const result = {
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
  if (tracePath !== undefined && method !== undefined) {
    const rest = {
      version: await readVersion(),
      stream: "filtered",
      queries: runs.some(({ pruner }) =>
        pruner!.needs.some((need) => need === "queries" || need === "future outputs")
      ),
      phase,
      piece: chunk ?? null,
      cacheDType,
      ...(backend.products && { products: backend.products }),
    } as const;
    await writeTrace(tracePath, recorder.table(runs.map(({ ids }) => ids)), traceInfo(file, method, rest));
  }
  if (folder !== undefined) {
    makeFolder(folder);
    await writeWhole(`${folder}/score.json`, JSON.stringify(result) + "\n");
    if (isFiltered) {
      await writeWhole(`${folder}/score.html`, renderScorePage(scored, method, record.layers()));
    }
  }
  const { table: shown, records } = tabulateScores(scored);
  await printTable(shown, table, {
    json: () => JSON.stringify(result),
    records,
    notes: [
      ...describeOutcome(scored, method),
      ...(isFiltered && folder !== undefined ? [`Report: ${folder}/score.html`] : []),
    ],
  });
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
