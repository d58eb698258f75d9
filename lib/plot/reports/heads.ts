/** The report of `deno task heads`: which heads agree, when variance warns, where skipping is safe. */
import { type HeadReport, ROC_GRID } from "../../heads/report.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import type { Figure } from "../figure/figure.ts";
import { type Html, markup } from "../figure/html.ts";
import { collectFusionWeights, plotFusionWeights } from "../plots/one_run/fusion_weight.ts";
import { collectHeadMaps, plotHeadMaps } from "../plots/one_run/head_maps.ts";
import { splitLayers } from "../plots/one_run/layer_trace.ts";
import { collectLearnedWeights, plotLearnedWeights } from "../plots/one_run/learned_weights.ts";
import {
  recordSection,
  renderFacts,
  renderPage,
  type ReportOptions,
  runFacts,
  tableSection,
  tabulate,
} from "../figure/page.ts";
import { plural } from "../../plural.ts";
import { collectRetrieval, plotRetrieval } from "../plots/one_run/retrieval.ts";
import { collectRidgelines, collectTrueRedundancy, plotRidgelines } from "../plots/methods/ridgelines.ts";
import { collectRoc, plotRoc } from "../plots/methods/roc.ts";
import { collectRuleDifferences, plotRuleDifferences } from "../plots/methods/rule_differences.ts";
import { collectRuleRanks, plotRuleRanks } from "../plots/methods/rule_ranks.ts";
import { styleRule } from "../trials/rule_style.ts";
import { collectScoreTimeline, plotScoreTimeline } from "../plots/one_run/score_timeline.ts";
import { collectSimilarityScatter, plotSimilarityScatter } from "../plots/one_run/similarity_scatter.ts";
import { collectTokenMap, plotTokenMap, type TokenMap } from "../plots/one_run/token_map.ts";
import { collectVariancePosition, plotVariancePosition } from "../plots/one_run/variance_position.ts";

/** The figures of a report: first how well rules rank, then their inputs. */
export function plotHeads(report: HeadReport): Figure[] {
  const { layers, views, overall, options, excerpt } = report;
  const sample = splitLayers(report.sample), excerpts = splitLayers(excerpt.columns);
  const { texts } = excerpt, { warmup } = options;
  const rule = String(options.method["fusion"]), invert = options.method["invert"] === true;
  const lambda = Number(options.method["lambda"] ?? 0);
  const shareOf = (layer: number) => layers.find((own) => own.layer === layer)?.skipRatio ?? 0;
  const grids = views.map((view) => ({
    name: `${view.keyState}, ${view.anchor}`,
    layers: view.layers,
  }));
  return [
    plotRuleDifferences(collectRuleDifferences(overall.comparisons, "auroc")),
    plotRuleRanks(collectRuleRanks(layers, "auroc")),
    plotRuleRanks(collectRuleRanks(layers, "spearman")),
    plotRoc(collectRoc(layers, ROC_GRID)),
    plotRidgelines(collectTrueRedundancy(sample, shareOf), "true redundancy"),
    plotRidgelines(collectRidgelines(sample)),
    plotSimilarityScatter(collectSimilarityScatter(sample, { rule, invert, lambda })),
    plotScoreTimeline(collectScoreTimeline(excerpts, { texts, warmup })),
    plotFusionWeights(collectFusionWeights(excerpts, { texts })),
    plotVariancePosition(collectVariancePosition(views[0]?.layers ?? [], report.bands)),
    plotHeadMaps(collectHeadMaps(grids, "mean")),
    plotHeadMaps(collectHeadMaps(grids, "variance")),
    plotLearnedWeights(collectLearnedWeights(layers, report.learnedFeatures)),
    plotRetrieval(collectRetrieval(report)),
  ];
}

/** The excerpt of a report, with the method's decisions. */
export function plotHeadsText({ excerpt, options }: HeadReport): TokenMap {
  return plotTokenMap(
    collectTokenMap(splitLayers(excerpt.columns), excerpt.texts, { warmup: options.warmup }),
  );
}

/** Renders a report as a page: how well every rule ranks, the figures, the excerpt. */
export function renderHeadsReport(report: HeadReport, page: ReportOptions): string {
  const { environment, options, layers, shape } = report;
  const shares = layers.map(({ skipRatio }) => skipRatio), figures = plotHeads(report);
  const chunks = `${environment.textTokens} tokens in chunks of ${environment.context}`;
  return renderPage({
    ...page,
    title: `KV similarity, head by head: ${environment.model} on ${environment.text}`,
    intro:
      markup`<p class="muted">Whether the filter's scores find the tokens whose attention does little, measured in the
dense stream, where no token is skipped.</p>
${
        renderFacts([
          ["method", nameMethod(options)],
          ["measured layers", `${layers.length} of ${shape.numLayers}, ${shape.numKvHeads} KV heads each`],
          ["counts as redundant", describeFractions(shares)],
          ["text", `${environment.text}, ${chunks}`],
          ...runFacts(environment),
        ])
      }`,
    sections: [
      tableOfRules(report),
      ...figures.slice(0, 6),
      plotHeadsText(report).toSection(),
      ...figures.slice(6),
      recordSection(
        "Environment, protocol and options",
        environment.protocol,
        JSON.stringify({ environment, shape, options }, null, 2),
      ),
    ],
  });
}

/** The rule that decides, as the report names it: `variance`, `variance inverted`. */
function nameMethod({ method }: HeadReport["options"]): string {
  return `${method["fusion"]}${method["invert"] === true ? " inverted" : ""}`;
}

function describeFractions(shares: readonly number[]): string {
  const low = Math.min(...shares), high = Math.max(...shares);
  const percent = (share: number) => `${Number((100 * share).toFixed(1))}%`;
  if (shares.length === 0) return "nothing";
  return `${low === high ? percent(low) : `${percent(low)} to ${percent(high)}`} of a layer's tokens`;
}

function tableOfRules({ overall, options, layers }: HeadReport): Html {
  const shown = (value: number | null, interval: Interval | null) => {
    if (value === null) return "–";
    const bounds = interval === null ? "" : ` [${interval.low.toFixed(3)}, ${interval.high.toFixed(3)}]`;
    return value.toFixed(3) + bounds;
  };
  const rules = [...overall.rules].sort((a, b) => styleRule(a.rule).rank - styleRule(b.rule).rank);
  const { blockSize, confidence } = options.bootstrap;
  const table = tabulate(rules, [
    ["rule", "how the moments of a token's similarities become its score", ({ rule }) => rule, true],
    [
      "AUROC",
      "chance that a redundant token scores above a needed one",
      ({ auroc, aurocInterval }) => shown(auroc, aurocInterval),
    ],
    [
      "Spearman",
      "rank correlation of the score with the true redundancy",
      ({ spearman, spearmanInterval }) => shown(spearman, spearmanInterval),
    ],
  ]);
  return tableSection(
    "How well each rule finds redundant tokens",
    `Means over ${plural(layers.length, "layer")}, with ${
      100 * confidence
    }% intervals by resampling moving blocks ` +
      `of ${blockSize} tokens. AUROC: 1 = as the oracle, 0.5 = chance. Spearman: 1 = as the oracle, 0 = chance.`,
    { ...table, marked: (row) => rules[row]!.rule === nameMethod(options) },
  );
}
