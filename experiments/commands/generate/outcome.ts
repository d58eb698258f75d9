/** The costs of continued texts, next to each other. */
import type { Backend } from "../../../lib/backend.ts";
import { dropRatioOf, skipRatiosOf, tallyDrops, tallySkips } from "../../../lib/eval/skip_ratio.ts";
import { unitsOf } from "../../../lib/filter/option.ts";
import { recordOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import { ownRulesSha256 } from "../../../lib/methods/list.ts";
import { recordCalibration } from "../../../lib/methods/protocol/calibration.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import type { SamplingOptions } from "../../../lib/model/generate/sampler.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";
import { tabulate, type TextTable } from "../../../lib/plot/figure/page.ts";
import { plural } from "../../../lib/plural.ts";
import { readVersion } from "../../../lib/version.ts";
import type { GeneratedText } from "./run.ts";

/** Tokens per second; null where none were made. */
const rate = (tokens: number, timeMs: number) => timeMs === 0 ? null : tokens / (timeMs / 1000);

/** The cost of a run, in numbers. */
function measureRun({ numLayers }: Pick<ModelConfig, "numLayers">, run: GeneratedText) {
  const { usage, pruner, length, keep, kvKeep } = run;
  const dense = usage.kvBytesHeld + usage.kvBytesAvoided;
  return {
    promptTokensPerSecond: rate(run.promptTokens, run.promptMs),
    tokensPerSecond: rate(run.ids.length, run.tokensMs),
    /** Fractions of the decisions after the warm-up, over all layers; null where nothing was decided. */
    queriesSkipped: pruner === undefined || pruner.layers.length === 0
      ? null
      : skipRatiosOf(tallySkips(numLayers, pruner.spans.warmup, [{ length, keep }])).achievedRatio,
    keysDropped: pruner?.keySide === undefined
      ? null
      : dropRatioOf(tallyDrops(numLayers, pruner.spans, [{ length, kvKeep }], pruner.keySide.heads)),
    /** Fractions of the full model's. */
    pairsAvoided: usage.pairsAvoided / usage.pairsDense,
    attentionFlopsAvoided: usage.attentionFlopsAvoided / usage.attentionFlopsDense,
    kvBytesHeld: usage.kvBytesHeld,
    kvBytesDense: dense,
    kvBytesAllocated: usage.kvBytesAllocated,
  };
}

const percent = (share: number | null) => share === null ? "-" : `${(100 * share).toFixed(1)}%`;
const speed = (perSecond: number | null) =>
  perSecond === null ? "-" : perSecond < 100 ? perSecond.toPrecision(3) : perSecond.toFixed(0);

export function describeRun(config: Pick<ModelConfig, "numLayers">, run: GeneratedText): string {
  const m = measureRun(config, run),
    ends = { stop: "the text ended", length: "most that were asked for", interrupt: "interrupted" };
  const skipped = [
    ...(m.queriesSkipped === null ? [] : [`skipped ${percent(m.queriesSkipped)} of queries`]),
    ...(m.keysDropped === null ? [] : [`evicted ${percent(m.keysDropped)} of decided keys and values`]),
  ].join(", ");
  return `${plural(run.ids.length, "token")} (${ends[run.ended]}) after ${run.promptTokens} of the prompt; ` +
    `${speed(m.promptTokensPerSecond)} tokens/s of the prompt, then ${speed(m.tokensPerSecond)} tokens/s; ` +
    (skipped === "" ? "" : `${skipped}, after the warm-up, over all layers; `) +
    `KV cache ${m.kvBytesHeld} bytes, ${percent(m.kvBytesHeld / m.kvBytesDense)} of the full model`;
}

/** The table with one row per run. */
export function tabulateRuns(
  config: Pick<ModelConfig, "numLayers">,
  runs: readonly GeneratedText[],
): TextTable {
  const rows = runs.map((run) => ({ name: run.name, made: run.ids.length, ...measureRun(config, run) }));
  return tabulate(rows, [
    ["run", "without and with the method", ({ name }) => name, true],
    ["tokens", "tokens that were made", ({ made }) => String(made)],
    ["prompt t/s", "tokens of the prompt a second", (m) => speed(m.promptTokensPerSecond)],
    ["t/s", "tokens made a second", (m) => speed(m.tokensPerSecond)],
    [
      "skipped",
      "pruning ratio: queries skipped, after the warm-up, over all layers",
      (m) => percent(m.queriesSkipped),
    ],
    [
      "evicted",
      "compression ratio: keys and values evicted, of those decided, likewise",
      (m) => percent(m.keysDropped),
    ],
    [
      "pairs",
      "pairs of a query and a key computed, in % of the full model's",
      (m) => percent(1 - m.pairsAvoided),
    ],
    [
      "attn FLOPs",
      "operations of the attention block, in % of the full model's",
      (m) => percent(1 - m.attentionFlopsAvoided),
    ],
    ["KV bytes", "bytes of the KV cache in use at the end", (m) => String(m.kvBytesHeld)],
    [
      "KV cache",
      "the same against a dense cache of the same tokens",
      (m) => percent(m.kvBytesHeld / m.kvBytesDense),
    ],
  ]);
}

/** Number of the first token in which two texts differ; null where one is the beginning of the other. */
function findParting(a: readonly number[], b: readonly number[]): number | null {
  const at = a.findIndex((id, i) => i < b.length && id !== b[i]);
  return at < 0 ? null : at;
}

/** Whether a run filtered nothing, so that its text is the full model's. */
export function filtersNothing({ pruner, length, keep, kvKeep }: GeneratedText): boolean {
  const gone = (masks: ReadonlyMap<number, Uint8Array>) =>
    [...masks].some(([layer, mask]) => {
      const units = masks === kvKeep ? unitsOf(pruner?.keySide?.heads?.get(layer)) : 1;
      return mask.subarray(0, length).some((kept) => kept < units);
    });
  return pruner?.prepare === undefined && !gone(keep) && !gone(kvKeep);
}

/** A fix for a run that filtered nothing, in words; empty for one that filtered. */
export function warnOfNothing(run: GeneratedText): string {
  if (run.pruner === undefined || !filtersNothing(run)) return "";
  const { warmup, recent } = run.pruner.spans;
  return `Nothing was filtered: all ${run.length} tokens lie within the warm-up of ${warmup} and the recent window of ${recent} ` +
    "or are not decided yet, so the text is the full model's (take a longer prompt, more --max-tokens, or a smaller --warmup " +
    "and --recent).";
}

/** The position at which two texts differ first, in words. */
export function describeParting(tokenizer: Tokenizer, runs: readonly GeneratedText[]): string {
  const [dense, filtered] = runs;
  if (dense === undefined || filtered === undefined) return "Interrupted before both texts were made.";
  const at = findParting(dense.ids, filtered.ids), count = Math.min(dense.ids.length, filtered.ids.length);
  if (at === null) {
    return [`The texts are the same for all of ${plural(count, "token")}.`, warnOfNothing(filtered)].join(" ")
      .trim();
  }
  const show = ({ ids }: GeneratedText) => JSON.stringify(tokenizer.texts(ids.slice(at, at + 8)).join(""));
  const texts = `dense goes on ${show(dense)}, filtered ${show(filtered)}`;
  return `They part at token ${at + 1} of ${count}: ${texts}.`;
}

interface Outcome {
  readonly file: ModelFile;
  readonly backend: Backend;
  readonly prompt: string;
  readonly ids: Int32Array;
  readonly method: ResolvedOptions | undefined;
  readonly sampling: SamplingOptions;
  readonly runs: readonly GeneratedText[];
}

/** An option as JSON has it. */
const plain = ([name, value]: [string, unknown]) => [name, typeof value === "bigint" ? String(value) : value];

export async function recordRuns({ file, backend, prompt, ids, method, sampling, runs }: Outcome) {
  const [dense, filtered] = runs, ruleSha256 = ownRulesSha256();
  return {
    version: await readVersion(),
    model: file.name,
    modelSha256: file.sha256,
    ...(file.dtype && { dtype: file.dtype }),
    backend: backend.description,
    ...(backend.products && { products: backend.products }),
    ...(method !== undefined && { method: recordOptions(method) }),
    ...(ruleSha256 !== undefined && { ruleSha256 }),
    ...recordCalibration(),
    sampling: Object.fromEntries(Object.entries(sampling).map(plain)),
    prompt,
    promptIds: [...ids],
    runs: runs.map((run) => ({
      ...{ name: run.name, text: run.text, ids: run.ids, ended: run.ended },
      ...measureRun(file.config, run),
    })),
    ...(dense !== undefined && filtered !== undefined && { partAt: findParting(dense.ids, filtered.ids) }),
  };
}
