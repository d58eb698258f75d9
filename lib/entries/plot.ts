/**
 * Plots of results, which show themselves in notebooks and save themselves as pages and images.
 *
 * ```ts
 * import { collectScoreTimeline, plotScoreTimeline } from "@tokenfilter/tokenfilter/plot";
 * const trace = { layer: 5, redundancy: [NaN, 0.9, 0.1], threshold: [NaN, 0.5, 0.6], keep: [1, 0, 1] };
 * const figure = plotScoreTimeline(collectScoreTimeline([trace], { texts: ["One", " two", " three"] }));
 * console.assert(figure.data.some(({ name }) => name === "skipped"));
 * ```
 *
 * Each plot is a pair: `collectX` gathers numbers from results, `plotX` draws them.
 * @module
 */
export {
  collectComparison,
  collectContour,
  collectFusionWeights,
  collectHeadMaps,
  collectImportance,
  collectLayerSkips,
  collectLearnedWeights,
  collectLengths,
  collectParallel,
  collectQuality,
  collectRetrieval,
  collectRuleDifferences,
  collectRuleRanks,
  collectScoreTimeline,
  collectSimilarityScatter,
  collectTokenMap,
  collectTrueRedundancy,
  collectVariancePosition,
  Figure,
  plotComparison,
  plotContour,
  plotFusionWeights,
  plotHeadMaps,
  plotImportance,
  plotLayerSkips,
  plotLearnedWeights,
  plotLengths,
  plotParallel,
  plotQuality,
  plotRetrieval,
  plotRidgelines,
  plotRuleDifferences,
  plotRuleRanks,
  plotScoreTimeline,
  plotSimilarityScatter,
  plotTokenMap,
  plotVariancePosition,
  recordTrace,
  setPlotly,
  splitLayers,
  type TraceColumns,
} from "../plot/mod.ts";
