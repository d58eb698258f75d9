/** The outcome of a scored sequence: its table, and the full model next to it. */
import { signed } from "../../../lib/eval/metrics.ts";
import type { SequenceScore } from "../../../lib/eval/sequence_score.ts";
import { dropRatioOf, skipRatiosOf, tallyDrops, tallySkips } from "../../../lib/eval/skip_ratio.ts";
import { effectiveOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { plural } from "../../../lib/plural.ts";
import type { PlainTable } from "../cli/output/table.ts";
import type { ScoreRun } from "../heads/replay.ts";

/** Scores of one run after the other, with the full model's where a method was at work. */
export interface Scored {
  readonly file: ModelFile;
  readonly runs: readonly ScoreRun[];
  readonly scores: readonly SequenceScore[];
  readonly dense: readonly SequenceScore[] | undefined;
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** Perplexity over sequences: exp of the mean of their mean losses. */
export function meanPerplexity(scores: readonly SequenceScore[]): number {
  return Math.exp(sum(scores.map(({ perplexity }) => Math.log(perplexity))) / scores.length);
}

/** Skips, cost and savings of a method; undefined for the full model. */
export function measureOutcome({ file, runs, scores, dense }: Scored) {
  if (dense === undefined) return undefined;
  const { numLayers } = file.config, { spans, keySide } = runs[0]!.pruner!;
  const skips = scores.map(({ layers, keep }, i) => ({
    length: runs[i]!.ids.length,
    keep: new Map(layers.map((layer, j) => [layer, keep[j]!])),
  }));
  const drops = scores.map(({ kvLayers, kvKeep }, i) => ({
    length: runs[i]!.ids.length,
    kvKeep: new Map(kvLayers.map((layer, j) => [layer, kvKeep[j]!])),
  }));
  const { achievedRatio } = skipRatiosOf(tallySkips(numLayers, spans.warmup, skips));
  return {
    denseNll: dense.flatMap(({ nll }) => [...nll]),
    densePerplexity: meanPerplexity(dense),
    achievedRatio,
    ...(keySide !== undefined && {
      kvAchievedRatio: dropRatioOf(tallyDrops(numLayers, spans, drops, keySide.heads)),
    }),
    kvBytesHeld: sum(scores.map(({ usage }) => usage.kvBytesHeld)),
    kvBytesAvoided: sum(scores.map(({ usage }) => usage.kvBytesAvoided)),
  };
}

/** A ratio over all layers, and the requested one. */
function shareOf(what: string, ratio: number, asked: number | undefined): string {
  const wish = asked === undefined ? "" : ` (requested: ${Number((100 * asked).toPrecision(6))}%)`;
  return `${(100 * ratio).toFixed(1)}% of ${what} after the warm-up, over all layers${wish}`;
}

export function describeOutcome(scored: Scored, method: ResolvedOptions | undefined): string[] {
  const { file, scores } = scored, outcome = measureOutcome(scored);
  const tokens = plural(sum(scores.map(({ nll }) => nll.length)), "token");
  const perplexity = meanPerplexity(scores);
  if (outcome === undefined) return [`Perplexity ${perplexity.toFixed(4)} over ${tokens} of ${file.name}`];
  const { densePerplexity, achievedRatio, kvAchievedRatio, kvBytesHeld, kvBytesAvoided } = outcome;
  const cost = signed(Math.log(perplexity / densePerplexity), 4), asked = method && effectiveOptions(method);
  const held = (100 * kvBytesHeld / (kvBytesHeld + kvBytesAvoided)).toFixed(0);
  return [
    `Perplexity ${perplexity.toFixed(4)} over ${tokens} of ${file.name}; ` +
    `dense ${densePerplexity.toFixed(4)}: ${cost} nats per token.`,
    [
      ...(achievedRatio === null ? ["No token came after the warm-up: nothing was decided."] : []),
      ...(achievedRatio === null || scores[0]!.layers.length === 0
        ? []
        : [`Skipped ${shareOf("attention", achievedRatio, asked?.pruneRatio)}.`]),
      ...(kvAchievedRatio === undefined || kvAchievedRatio === null
        ? []
        : [`Evicted ${shareOf("decided keys and values", kvAchievedRatio, asked?.kvRatio)}.`]),
    ].join(" ") +
    ` KV cache: ${kvBytesHeld} bytes, ${held}% of the full model.`,
  ];
}

export const SCORE_COLUMNS = ["position", "id", "piece", "nll", "dense", "skipped layers", "evicted layers"];

/** Ascending whole numbers, with runs as `first-last`: `2-5 7`. */
export function formatRanges(numbers: readonly number[]): string {
  const runs: [first: number, last: number][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run !== undefined && run[1] === number - 1) run[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => first === last ? String(first) : `${first}-${last}`).join(" ");
}

/** A row per token, as text and as records; with the full model's loss, if a method was at work. */
export function tabulateScores({ file, runs, scores, dense }: Scored): {
  readonly table: PlainTable;
  readonly records: readonly object[];
} {
  const losses = (of: SequenceScore | undefined, t: number) => t === 0 ? null : of?.nll[t - 1] ?? null;
  const hasKeySide = scores.some(({ kvLayers }) => kvLayers.length > 0);
  const records = runs.flatMap(({ ids }, i) => {
    const { layers, keep, kvLayers, kvKeep } = scores[i]!;
    return Array.from(ids, (id, t) => ({
      position: t,
      id,
      piece: file.tokenizer.piece(id),
      nll: losses(scores[i], t),
      ...(dense && { dense: losses(dense[i], t) }),
      skippedLayers: layers.filter((_, j) => keep[j]![t] === 0),
      ...(hasKeySide && { droppedLayers: kvLayers.filter((_, j) => kvKeep[j]![t] === 0) }),
    }));
  });
  const shown = (loss: number | null | undefined) => loss?.toFixed(4) ?? "-";
  const columns = SCORE_COLUMNS.filter((name) =>
    name === "dense" ? dense !== undefined : name !== "evicted layers" || hasKeySide
  );
  const rows = records.map(({ position, id, piece, nll, dense: loss, skippedLayers, droppedLayers }) => [
    String(position),
    String(id),
    JSON.stringify(piece),
    shown(nll),
    ...(dense ? [shown(loss)] : []),
    formatRanges(skippedLayers),
    ...(droppedLayers === undefined ? [] : [formatRanges(droppedLayers)]),
  ]);
  const left = columns.map((name) => name === "piece" || name.endsWith(" layers"));
  return { table: { columns, rows, left }, records };
}
