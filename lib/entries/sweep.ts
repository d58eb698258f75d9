/**
 * Many configurations on one text: grids of options, methods compared with intervals, and which options matter.
 *
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { sweepStudy } from "@tokenfilter/tokenfilter/sweep";
 * const model = await loadModel("tiny", new ReferenceBackend());
 * const study = { model, text: await readBuiltinText(), context: 32, tokens: 32 };
 * const { trials } = await sweepStudy(study, [{ fusion: ["key", "value"], pruneRatio: 0.3, warmup: 8 }]);
 * console.assert(trials.length === 2);
 * ```
 * @module
 */
export {
  comparedMethods,
  compareMethods,
  compareStudy,
  type Comparison,
  describeStudy,
  encodeStudy,
  fitBudget,
  type Grid,
  measureImportance,
  openStudy,
  readSearchSpace,
  type Study,
  sweepStudy,
  type SweepSummary,
  type Trial,
} from "../sweep/mod.ts";
