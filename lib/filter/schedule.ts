/** The layer plan: which layers are filtered, and how much of each is to be skipped. */
import { type HeadParts, type Layers, wrongOption } from "./option.ts";
import { policyOf, type ThresholdPolicy } from "./threshold.ts";

interface PlannedLayer {
  readonly layer: number;
  /** Fraction of its tokens to skip after warm-up, in [0, 1]. */
  readonly skipRatio: number;
  /** Key side: its KV heads, where some of them keep every key and value. */
  readonly headParts?: HeadParts;
}

/** How the ratio is spread: the ratio of filtered layer i of F relative to their mean; null = as listed, by layer. */
export const SCHEDULES = {
  uniform: (): number => 1,
  ramp: (i: number, F: number, { slope }: { readonly slope: number }): number =>
    F === 1 ? 1 : 1 + slope * (2 * i / (F - 1) - 1),
  /** Their mean until the warm-up of a sequence has outcomes for each layer; see `allocation.ts`. */
  allocated: (): number => 1,
  explicit: null,
} as const;

/** The largest fraction that the schedule `allocated` gives a layer. */
export const MAX_ALLOCATED = 0.97;

type ScheduleName = keyof typeof SCHEDULES;
export const SCHEDULE_NAMES: readonly ScheduleName[] = Object.keys(SCHEDULES) as ScheduleName[];

/** The options for the plan of each side, and the side's name in errors. */
const PLANS = {
  queries: { ratio: "pruneRatio", tail: "tail", of: "" },
  keys: { ratio: "kvRatio", tail: "kvTail", of: " of keys and values" },
} as const;

/** A side of filtering: skipped attention, or evicted keys and values. */
export type SideName = keyof typeof PLANS;

interface PlanOptions {
  readonly schedule: ScheduleName;
  readonly skipRatios: readonly number[] | undefined;
  readonly slope: number;
  readonly threshold: ThresholdPolicy;
  readonly pruneRatio: number;
  readonly tail: number;
  /** Only for the key side, as is `kvTail`. */
  readonly kvRatio?: number;
  readonly kvTail?: number;
  readonly whole?: Layers;
  readonly wholeFraction?: number;
}

/** Products of decimal fractions and small integers are off by rounding, never by this much. */
const ROUNDING = 1e-9;

/** Number of filtered layers, ceil(tail * numLayers): the last ones. `tail` in (0, 1]. */
export function countFiltered(tail: number, numLayers: number): number {
  return Math.max(1, Math.ceil(tail * numLayers - ROUNDING));
}

/**
 * The filtered layers, ascending. `uniform`: p*L/F each; `ramp`: m*(1 + slope*(2*i/(F-1) - 1)) with m = p*L/F;
 * `explicit`: as listed, 0 = not filtered. L = layers, F = filtered layers, p = the side's ratio. Layers that keep every
 * key and value (`whole`) are not filtered on the key side; one with some whole KV heads counts in F by its other heads.
 *
 * A policy that aims at no ratio (`fixed`) has 1 where it would be above.
 *
 * @param retrieval Scores for `whole`, as of a model's shape.
 * @throws {RangeError} If a layer needs a skip ratio above 1, the list's length is not L, or a whole layer is unknown.
 */
export function planLayers(
  numLayers: number,
  options: PlanOptions,
  side: SideName = "queries",
  retrieval?: readonly number[],
): PlannedLayer[] {
  const weigh = SCHEDULES[options.schedule];
  if (weigh === null) return planExplicit(numLayers, options.skipRatios!);
  const { ratio, tail } = PLANS[side], last = countFiltered(options[tail]!, numLayers);
  const whole = side === "keys" ? wholeHeads(numLayers, options, retrieval) : [];
  const layers = Array.from({ length: last }, (_, i) => numLayers - last + i)
    .flatMap((layer) => whole[layer]?.others.length === 0 ? [] : [{ layer, heads: whole[layer] }]);
  const evicting = (heads: HeadParts | undefined) =>
    heads === undefined ? 1 : heads.others.length / (heads.whole.length + heads.others.length);
  const count = layers.reduce((sum, { heads }) => sum + evicting(heads), 0);
  const mean = options[ratio]! * numLayers / count;
  const plan = layers.map(({ layer, heads }, i) => ({
    layer,
    skipRatio: mean * weigh(i, layers.length, options),
    ...(heads !== undefined && heads.whole.length > 0 && { headParts: heads }),
  }));
  const highest = plan.at(-1);
  if (whole.length > 0 && policyOf(options).aims && !(mean <= 1 + ROUNDING)) {
    throw tooManyWhole(numLayers, options[ratio]!, count);
  }
  if (highest && policyOf(options).aims && highest.skipRatio > highestRatio(options) + ROUNDING) {
    throw unreachable(numLayers, options, highest, side);
  }
  return plan.map((own) => ({ ...own, skipRatio: Math.min(own.skipRatio, 1) }));
}

/** The error for a layer that is asked about and not filtered. */
export function unplannedLayer(layer: number, layers: Iterable<number>): RangeError {
  return new RangeError(`Cannot filter layer ${layer}: expected one of ${[...layers].join(", ")}`);
}

/** Checks an `explicit` schedule without a model. @throws {RangeError} If it has no list, or a ratio is out of range. */
export function checkRatios({ schedule, skipRatios }: Pick<PlanOptions, "schedule" | "skipRatios">): void {
  if (SCHEDULES[schedule] === null && skipRatios === undefined) {
    throw wrongOption("skipRatios", "undefined", "one number a layer, since the schedule is explicit");
  }
  const layer = skipRatios?.findIndex((ratio) => !(ratio >= 0 && ratio <= 1)) ?? -1;
  if (layer < 0) return;
  throw wrongOption("skipRatios", `${skipRatios![layer]} for layer ${layer}`, "a number in [0, 1]");
}

/** The layers that keep every key and value, ascending. @throws {RangeError} As {@linkcode wholeParts}. */
export function wholeLayers(
  numLayers: number,
  options: PlanOptions,
  retrieval?: readonly number[],
): number[] {
  const whole = wholeHeads(numLayers, options, retrieval);
  return whole.flatMap(({ others }, layer) => others.length === 0 ? [layer] : []);
}

/** By layer its KV heads, those that keep everything apart; one stands for all where layers are whole. Empty where none is. */
function wholeHeads(numLayers: number, options: PlanOptions, retrieval?: readonly number[]): HeadParts[] {
  const parts = new Set(wholeParts(numLayers, options, retrieval));
  if (parts.size === 0) return [];
  const perLayer = options.whole === "heads" ? retrieval!.length / numLayers : 1;
  return Array.from({ length: numLayers }, (_, layer) => {
    const heads = Array.from({ length: perLayer }, (_, head) => head);
    const isWhole = (head: number) => parts.has(layer * perLayer + head);
    return { whole: heads.filter(isWhole), others: heads.filter((head) => !isWhole(head)) };
  });
}

/**
 * Parts that keep every key and value, ascending: layers; or KV heads where `whole` is "heads", as
 * layer * numKvHeads + head. `auto` and `heads` give the smallest set, highest scores first, that has the requested
 * fraction of the summed score. It is smaller where the others could not drop enough for the same number of rows. There
 * is none where the schedule lists a ratio per layer.
 *
 * @throws {RangeError} If a layer is unknown, or there are no scores.
 */
export function wholeParts(
  numLayers: number,
  { whole = "none", wholeFraction = 1, kvRatio = 0, threshold, schedule }: PlanOptions,
  retrieval?: readonly number[],
): number[] {
  if (whole === "none" || SCHEDULES[schedule] === null) return [];
  if (typeof whole !== "string") {
    const unknown = whole.find((layer) => layer >= numLayers);
    if (unknown === undefined) return [...whole].sort((a, b) => a - b);
    throw wrongOption("whole", `layer ${unknown}`, `layers from 0 to ${numLayers - 1}`);
  }
  if (retrieval === undefined) {
    const expected = "a shape with `retrieval`, as findRetrievalLayers() gives it";
    throw wrongOption("whole", `"${whole}" without scores of the layers`, expected);
  }
  const ranked = retrieval.map((_, part) => part).sort((a, b) => retrieval[b]! - retrieval[a]!);
  const asked = wholeFraction * retrieval.reduce((sum, score) => sum + score, 0);
  let count = 0, sum = 0;
  while (count < ranked.length && sum < asked - ROUNDING * asked) sum += retrieval[ranked[count++]!]!;
  const most = policyOf({ threshold }).aims
    ? Math.floor(ranked.length * (1 - kvRatio) + ROUNDING)
    : ranked.length;
  return ranked.slice(0, Math.min(count, most)).sort((a, b) => a - b);
}

/** The error for full-cache layers that leave too few others for the ratio. */
function tooManyWhole(numLayers: number, ratio: number, others: number): RangeError {
  const most = Math.floor(numLayers * (1 - ratio) + ROUNDING),
    highest = Math.floor(1e4 * others / numLayers) / 1e4;
  const found = `${+(numLayers - others).toFixed(2)} of ${numLayers} layers whole at a kvRatio of ${ratio}`;
  const expected = `expected at most ${most} layers, or a kvRatio of at most ${highest}`;
  return new RangeError(`Cannot keep ${found}: the others cannot evict that much, ${expected}`);
}

function planExplicit(numLayers: number, skipRatios: readonly number[]): PlannedLayer[] {
  if (skipRatios.length !== numLayers) {
    throw wrongOption("skipRatios", `${skipRatios.length} numbers`, `${numLayers}, one a layer`);
  }
  return skipRatios.flatMap((skipRatio, layer) => skipRatio === 0 ? [] : [{ layer, skipRatio }]);
}

/** The largest skip ratio that a layer may be asked for. */
function highestRatio({ schedule }: PlanOptions): number {
  return schedule === "allocated" ? MAX_ALLOCATED : 1;
}

/** The error for a plan that asks too much, with the nearest plans that do not. */
function unreachable(
  numLayers: number,
  options: PlanOptions,
  highest: PlannedLayer,
  side: SideName,
): RangeError {
  const { schedule } = options, limit = highestRatio(options), { ratio, tail, of } = PLANS[side];
  const steepest = (count: number) => SCHEDULES[schedule]!(count - 1, count, options);
  const fits = (count: number) => options[ratio]! * numLayers / count * steepest(count) <= limit + ROUNDING;
  const down = (x: number) => Math.floor((x + ROUNDING) * 1e4) / 1e4;

  const count = countFiltered(options[tail]!, numLayers), needed = +highest.skipRatio.toFixed(4);
  const fixes = [`${ratio} of at most ${down(limit * count / numLayers / steepest(count))}`];
  for (let more = count + 1; more <= numLayers; more++) {
    if (!fits(more)) continue;
    fixes.unshift(`${tail} of at least ${down(more / numLayers)}`);
    break;
  }
  return new RangeError(
    `Cannot plan a ${schedule} schedule${of}: layer ${highest.layer} needs a skip ratio of ${needed}, ` +
      `expected at most ${limit}: use a ${fixes.join(" or a ")}`,
  );
}
