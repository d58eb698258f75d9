/**
 * Pages made of plots and tables: of a sweep, a comparison, a benchmark, heads, and a site of them all.
 * @module
 */
export {
  type BenchBar,
  type BenchReport,
  type PeerRow,
  plotBench,
  renderBenchReport,
  tabulateBars,
  tabulateKernels,
  tabulateLengths,
  tabulatePeers,
} from "./bench.ts";
export { collectBestSoFar, plotBestSoFar } from "./best_so_far.ts";
export { plotComparisons, renderComparisonReport, tabulateComparison } from "./comparison.ts";
export { formatCsv } from "./csv.ts";
export {
  describeDifference,
  listDifferences,
  recordDifference,
  renderDifferenceReport,
  tabulateDifference,
} from "./difference.ts";
export { plotHeads, plotHeadsText, renderHeadsReport } from "./heads.ts";
export { PAPER_LEGEND, type PaperPart, tabulatePaper } from "./paper_table.ts";
export {
  type DenseCheck,
  describeChecks,
  describeReproduction,
  listReproductionTables,
  listRows,
  type PublishedNumber,
  renderReproduction,
  type ReproducedPart,
  type Reproduction,
  tabulateReproduction,
} from "./reproduction.ts";
export { describeOpposed, RESULT_COLUMNS, tabulateResults } from "./results.ts";
export { renderSite, SITE_FILES, type SiteEntry } from "./site.ts";
export { describeSearch } from "./search_notes.ts";
export { plotSweep, renderSweepReport } from "./sweep.ts";
export { foldSeeds, tabulateTrials } from "./trial_table.ts";
export { collectVerdicts, describeComparison, describeVerdicts } from "./verdict.ts";
