/** A summary for tests, made of numbers that can be checked by eye. */
import type { PerplexityTypes } from "../eval/tasks/mod.ts";
import { type BandedDistribution, type HeadReport, headRules } from "../heads/report.ts";
import type { BlockSums } from "../stats/paired.ts";
import type { Distribution } from "../stats/distribution.ts";
import { summarizeSweep } from "../sweep/summary.ts";
import { type MethodOptions, nonCausal, recordOptions, resolveOptions } from "../methods/bind/options.ts";
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
  cacheDType: "f32" as const,
  backend: "reference",
  runDigest: "cc",
};

/** Losses of two chunks of 511 tokens with a mean, in blocks that waver about it alike in all trials. */
function makeBlocks(mean: number): BlockSums {
  const sizes = Array.from({ length: 16 }, (_, i) => i % 8 === 7 ? 63 : 64);
  const wave = (i: number) => i % 8 === 7 ? 0 : (i % 8 - 3) / 10;
  return { sums: sizes.map((size, i) => size * (mean + wave(i))), sizes };
}

/** A trial with given options, ratio and perplexity. */
export function makeTrial(
  options: MethodOptions,
  achievedRatio: number | null,
  perplexity: number,
): Trial<PerplexityTypes> {
  const method = resolveOptions(options);
  return {
    trial: JSON.stringify(options, (_, value) => typeof value === "bigint" ? String(value) : value),
    ...recordOptions(method),
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
    kvAchievedRatio: null,
    queriesDense: 2048,
    queriesSkipped: 512,
    pairsDense: 1000,
    pairsAvoided: 250,
    parametersDense: 1000,
    parametersAvoided: 0,
    projectionFlopsDense: 60,
    projectionFlopsAvoided: 30,
    attentionFlopsDense: 100,
    attentionFlopsAvoided: 40,
    totalFlopsDense: 400,
    totalFlopsAvoided: 40,
    timeMs: 80,
    denseTimeMs: 100,
    lossBlocks: makeBlocks(Math.log(perplexity)),
    nonCausal: nonCausal(method),
    ...RUN,
    deno: "2.0.0",
    finishedAt: "2026-01-02T03:04:05.000Z",
  };
}

/** A summary of trials. */
export function makeSummary(trials: readonly Trial<PerplexityTypes>[]): SweepSummary<PerplexityTypes> {
  const dense = {
    perplexity: 40,
    nll: Math.log(40),
    tokens: 1024,
    scoredTokens: 1022,
    chunks: 2,
    context: 512,
    timeMs: 100,
    kvBytesHeld: 1000,
    kvBytesAllocated: 1000,
    attentionFlops: 100,
    totalFlops: 400,
    lossBlocks: makeBlocks(Math.log(40)),
  };
  const environment: Environment = {
    ...RUN,
    tokensSha256: "dd",
    protocol: "by hand",
    backendDescription: "reference: plain TypeScript",
    deno: "2.0.0",
    platform: "linux x86_64",
    startedAt: "2026-01-02T03:04:05.000Z",
  };
  return summarizeSweep(trials, dense, environment);
}

/** A distribution of which all quantiles are its mean. */
function point(mean: number | null, variance = 0): Distribution {
  const quantiles = Array.from({ length: 7 }, () => mean);
  return { count: mean === null ? 0 : 4, mean, variance, min: mean, max: mean, quantiles };
}

/** A report of two layers (4 and 5), two KV heads and four tokens, the first of them in the warm-up. */
export function makeHeadReport(): HeadReport {
  const { environment } = makeSummary([]);
  const layers = [4, 5];
  const banded = (mean: number): BandedDistribution => ({
    all: point(mean),
    bands: [point(null), point(mean)],
  });
  const rules = headRules().map((rule, i) => ({ rule, auroc: i / 16, spearman: i / 8 - 1 }));
  const around = (estimate: number) => ({ estimate, low: estimate - 0.125, high: estimate + 0.25 });
  const bounded = rules.map((quality) => ({
    ...quality,
    aurocInterval: around(quality.auroc),
    spearmanInterval: around(quality.spearman),
    roc: Array.from({ length: 33 }, (_, i) => Math.sqrt(i / 32)),
  }));
  const comparisons = [
    { rule: "variance", against: "random", auroc: around(-0.25), spearman: null },
    { rule: "variance", against: "key", auroc: around(0.5), spearman: around(0.5) },
    { rule: "learned", against: "random", auroc: around(0.25), spearman: around(1) },
  ] as const;
  const columns = {
    token: [0, 1, 2, 3, 0, 1, 2, 3],
    position: [0, 1, 2, 3, 0, 1, 2, 3],
    layer: [4, 4, 4, 4, 5, 5, 5, 5],
    muK: [null, 0.5, 0.25, 0.75, null, 0.5, 0.25, 0.75],
    muV: [null, 0.25, 0.5, 0.5, null, 0.25, 0.5, 0.5],
    varK: [null, 0.01, 0.02, 0.03, null, 0.01, 0.02, 0.03],
    varV: [null, 0.04, 0.05, 0.06, null, 0.04, 0.05, 0.06],
    wK: [null, 0.5, 0.75, 1, null, 0.5, 0.75, 1],
    S: [null, 0.375, 0.25, 0.625, null, 0.375, 0.5, 0.625],
    theta: [null, null, 0.375, 0.3125, null, null, 0.375, 0.4375],
    keep: [1, 1, 1, 0, 1, 1, 0, 0] as (0 | 1)[],
    r: [1, 0.1, 0.01, 0.001, 1, 0.1, 0.01, 0.001],
  };
  return {
    format: 1,
    environment,
    shape: { numLayers: 6, numHeads: 4, numKvHeads: 2, headDim: 8, hiddenSize: 32 },
    options: {
      method: { fusion: "variance", pruneRatio: 0.5 },
      warmup: 1,
      seed: 0,
      bootstrap: { blockSize: 64, resamples: 100, confidence: 0.95, seed: 0 },
    },
    bands: [{ from: 0, to: 1 }, { from: 1, to: 4 }],
    views: (["post-rope", "pre-rope"] as const).map((keyState) => ({
      keyState,
      anchor: "ema",
      layers: layers.map((layer) => ({
        layer,
        heads: [0, 1].map((head) => ({
          head,
          sK: point((layer + head) / 10, 0.25),
          sV: point((layer - head) / 10, 0.5),
          sKBands: [point(null), point((layer + head) / 10, 0.25)],
          sVBands: [point(null), point((layer - head) / 10, 0.5)],
        })),
        muK: banded(0.5),
        varK: banded(layer / 100),
        muV: banded(0.25),
        varV: banded(layer / 50),
        wK: banded(0.75),
        scores: rules.map(({ rule }) => ({ rule, score: banded(0.5) })),
        rules,
      })),
    })),
    layers: layers.map((layer) => ({
      layer,
      skipRatio: 0.5,
      skipped: 0.5,
      r: banded(0.1),
      rules: bounded,
      comparisons,
      learnedWeights: [0.5, -layer, 9],
    })),
    overall: { rules: bounded, comparisons },
    learnedFeatures: ["muK", "muV", "bias"],
    retrieval: {
      scores: [0, 1, 0, 0, 3, 0],
      heads: [[0, 0], [0.5, 0.5], [0, 0], [0, 0], [3, 0], [0, 0]],
      losses: [9, 1],
      copies: true,
      probe: { version: 2, tokens: 128, sinks: 32, recent: 64, seed: 0 },
    },
    sample: columns,
    excerpt: { texts: ["A", " <b>", " @x", "\n"], firstToken: 0, columns },
  };
}

/** A report in which nothing could be measured. */
export function makeEmptyHeadReport(): HeadReport {
  const report = makeHeadReport();
  const columns = Object.fromEntries(Object.keys(report.sample).map((name) => [name, []]));
  const sample = columns as unknown as HeadReport["sample"], { retrieval: _, ...others } = report;
  return {
    ...others,
    views: [],
    layers: [],
    overall: { rules: [], comparisons: [] },
    sample,
    excerpt: { texts: [], firstToken: 0, columns: sample },
  };
}
