/** A summary for tests, made of numbers that can be checked by eye. */
import { summarizeSweep } from "../sweep/summary.ts";
import {
  looksAhead,
  recordTrialOptions,
  resolveTrialOptions,
  type TrialOptions,
} from "../sweep/trial_options.ts";
import type { Environment, SweepSummary, Trial } from "../sweep/trial.ts";

/** The run that all trials belong to. */
const RUN = {
  version: "0.0.0",
  model: "fake",
  modelSha256: "aa",
  text: "numbers <1>",
  textSha256: "bb",
  context: 512,
  textTokens: 1024,
  bos: true,
  backend: "reference",
  runDigest: "cc",
};

/** A trial with given options, ratio and perplexity. */
export function makeTrial(options: TrialOptions, achievedRatio: number | null, perplexity: number): Trial {
  const method = resolveTrialOptions(options);
  return {
    trial: JSON.stringify(options, (_, value) => typeof value === "bigint" ? String(value) : value),
    ...recordTrialOptions(method),
    achievedRatio,
    achievedRatioWithWarmup: achievedRatio ?? 0,
    skipRatioPerLayer: [0, achievedRatio === null ? null : achievedRatio * 2],
    perplexity,
    densePerplexity: 40,
    nllDelta: Math.log(perplexity / 40),
    nllDeltaSe: 0.01,
    kl: perplexity / 100,
    top1Agreement: 0.75,
    tokens: 1024,
    scoredTokens: 1022,
    kvBytesHeld: 600,
    kvBytesAvoided: 400,
    kvBytesAllocated: 640,
    attentionFlopsDense: 100,
    attentionFlopsAvoided: 40,
    totalFlopsDense: 400,
    totalFlopsAvoided: 40,
    timeMs: 80,
    denseTimeMs: 100,
    looksAhead: looksAhead(method),
    ...RUN,
    deno: "2.0.0",
    finishedAt: "2026-01-02T03:04:05.000Z",
  };
}

/** A summary of trials. */
export function makeSummary(trials: readonly Trial[]): SweepSummary {
  const dense = {
    perplexity: 40,
    nll: Math.log(40),
    tokens: 1024,
    scoredTokens: 1022,
    chunks: 2,
    context: 512,
    timeMs: 100,
    kvBytesHeld: 1000,
    attentionFlops: 100,
    totalFlops: 400,
  };
  const environment: Environment = {
    ...RUN,
    protocol: "by hand",
    backendDescription: "reference: plain TypeScript",
    deno: "2.0.0",
    platform: "linux x86_64",
    startedAt: "2026-01-02T03:04:05.000Z",
  };
  return summarizeSweep(trials, dense, environment);
}
