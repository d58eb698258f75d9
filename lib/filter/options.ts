/** The options of the recurrence and of the layer plan, which all methods share. A method's own are in its file. */
import type { OptionTable, Others, Resolved } from "./option.ts";
import { SUBSTITUTES } from "./outcome.ts";
import { ANCHOR_NAMES } from "./similarity.ts";
import { SCHEDULE_NAMES, SCHEDULES } from "./schedule.ts";
import { POLICIES, THRESHOLD_POLICIES } from "./threshold.ts";

const isPlanned = ({ schedule }: Others): boolean => SCHEDULES[schedule as keyof typeof SCHEDULES] !== null;
/** Whether the policy aims at a ratio; it does where a method has none. */
const isAimed = ({ threshold }: Others): boolean =>
  POLICIES[threshold as keyof typeof POLICIES]?.aims ?? true;

export const FILTER_OPTIONS = {
  invert: { type: "flag", default: false, help: "negate the score: a control" },
  anchor: {
    type: "name",
    names: ANCHOR_NAMES,
    default: "ema",
    uses: "similarity",
    help: "how anchors follow the past",
  },
  gamma: {
    type: "number",
    default: 0.9,
    range: "[0, 1)",
    of: { anchor: ["ema"] },
    uses: "similarity",
    help: "decay of the anchor, {range}",
  },
  absorb: {
    type: "name",
    names: ["all", "kept"],
    default: "all",
    uses: "similarity",
    help: "which tokens move the anchors",
  },
  pruneRatio: {
    type: "number",
    default: 0.5,
    range: "[0, 1)",
    value: "P",
    matters: (others: Others): boolean => isPlanned(others) && isAimed(others),
    help: "ratio of attention to skip after the warm-up, over all layers, {range}",
  },
  tail: {
    type: "number",
    default: 0.75,
    range: "(0, 1]",
    matters: isPlanned,
    help: "fraction of the layers that are filtered, the last ones",
    note: "heads: 1, all are measured",
  },
  schedule: {
    type: "name",
    names: SCHEDULE_NAMES,
    default: "uniform",
    matters: (others: Others): boolean => !isPlanned(others) || isAimed(others),
    help: "how the ratio is spread over filtered layers",
  },
  slope: {
    type: "number",
    default: 0.5,
    range: "[0, 1]",
    of: { schedule: ["ramp"] },
    matters: isAimed,
    help: "relative rise to the last layer, {range}",
  },
  skipRatios: { type: "ratios", of: { schedule: ["explicit"] }, help: "a list of one ratio per layer" },
  warmup: {
    type: "integer",
    default: 32,
    range: "[0, 1000000]", // a rule that learns may hold that many tokens' features, others nothing
    help: "tokens kept at the start of a sequence",
  },
  threshold: {
    type: "name",
    names: THRESHOLD_POLICIES,
    default: "budget",
    uses: "threshold",
    help: "threshold policy",
  },
  window: {
    type: "integer",
    flag: "threshold-window",
    default: 256,
    range: "[1, 65536]", // memory per layer and sequence, as for `recent`
    of: { threshold: ["budget", "window"] },
    uses: "threshold",
    help: "scores to look back on",
  },
  theta: {
    type: "number",
    default: 0,
    of: { threshold: ["fixed"] },
    uses: "threshold",
    help: "the threshold",
  },
  eta: {
    type: "number",
    default: 0.1,
    range: "(0, 10]",
    of: { threshold: ["robbins-monro"] },
    uses: "threshold",
    help: "step size",
  },
  keyState: {
    type: "name",
    names: ["post-rope", "pre-rope"],
    default: "post-rope",
    uses: "similarity",
    help: "keys that the filter reads",
  },
  recent: {
    type: "integer",
    default: 16,
    range: "[0, 65536]",
    uses: "window",
    help: "tokens of the recent window, whose keys and values stay visible whatever was decided",
  },
  substitute: {
    type: "name",
    names: SUBSTITUTES,
    default: "none",
    help:
      "attention output of a skipped token: nothing, the mean of earlier ones, the last one, or that of attention " +
      "over only the first and the recent tokens",
  },
  sinks: {
    type: "integer",
    default: 4,
    range: "[0, 1024]",
    of: { substitute: ["local"] },
    help: "tokens at the start of a sequence that such attention reads",
  },
  block: {
    type: "integer",
    default: 32,
    range: "[1, 65536]",
    uses: "blocks",
    help: "tokens that a rule learns from at once, and after which keys and values are decided",
  },
} as const satisfies OptionTable;

export type FilterOptions = Resolved<typeof FILTER_OPTIONS>;
export type Anchor = FilterOptions["anchor"];
/** @internal Which keys the filter looks at: after rotary embedding, or before it. */
export type KeyState = FilterOptions["keyState"];
