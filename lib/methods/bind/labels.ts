/** Labels of a method in a comparison, besides its losses, in few words. */
import { ownCalibration } from "../protocol/calibration.ts";
import { isOffline, type Labels, type Method } from "../protocol/method.ts";
import type { ResolvedOptions } from "./options.ts";
import { decidingMethods } from "./sides.ts";

function sayLabels({ calibration, queryAware, phase, trained }: Labels): string {
  const text = calibration === "other" ? "other text" : "the same domain";
  return [
    calibration === "none" ? "no calibration" : `calibration on ${text}`,
    queryAware ? "query-aware" : "query-agnostic",
    phase === "both" ? "prefill and decode" : `${phase} alone`,
    trained ? "trained" : "not trained",
  ].join(", ");
}

const PLAIN_LABELS: Labels = { calibration: "none", queryAware: false, phase: "both", trained: false };

/** For a method that needs calibration text, its labels with the kind of this process's text. */
function calibratedLabels(method: Method): Labels {
  const labels = { ...PLAIN_LABELS, ...method.labels };
  return isOffline(method) && method.offline === true
    ? { ...labels, calibration: ownCalibration()?.domain ?? "other" }
    : labels;
}

/** The labels of the methods that decide under options, of both sides if these differ. */
export function labelOptions(options: ResolvedOptions): string {
  const said = [...new Set(decidingMethods(options).map((method) => sayLabels(calibratedLabels(method))))]
    .join("; keys and values: ");
  return options.shuffle ? `${said}; decisions shuffled in time, a pass ahead` : said;
}
