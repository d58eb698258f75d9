/** How a method looks: the same colour and mark in every plot. */
import { EVICTIONS, findMethod, KEY_RULES, METHODS, OFFLINE } from "../../methods/list.ts";
import type { Method } from "../../methods/protocol/method.ts";
import { PRESETS } from "../../methods/bind/option_table.ts";
import { NUM_SERIES_COLORS } from "../figure/theme.ts";

const SYMBOLS = "circle square diamond triangle-up triangle-down cross x pentagon hexagram star hexagon"
  .split(" ");

/** Marks and dashes of random baselines, in their order. */
const RANDOM = (METHODS as readonly Method[]).filter(({ looks }) => looks?.random).map(({ name }) => name);
const RANDOM_LOOKS = [["hourglass", "dot"], ["bowtie", "dashdot"]] as const;

const placeOf = ({ looks }: Method) => looks?.place ?? METHODS.length;

/** Names of methods in the order of a legend; a place gives colour and mark. Random baselines have none. */
const LEGEND: readonly string[] = [
  ...(METHODS as readonly Method[]).filter(({ looks }) => !looks?.random)
    .sort((a, b) => placeOf(a) - placeOf(b)),
  ...KEY_RULES,
  ...EVICTIONS,
  ...OFFLINE,
].map(({ name }) => name);

interface RuleStyle {
  readonly rank: number;
  readonly color: string;
  /** Plotly's name of a mark; an open one where the rule is inverted. */
  readonly symbol: string;
  readonly dash: string;
  readonly main: boolean;
}

/** Presets have the last colours, marks and dashes of their own. */
const PRESET_NAMES = Object.keys(PRESETS);
const PRESET_SYMBOLS = ["square-x-open", "diamond-x-open", "circle-x-open"];
const PRESET_DASHES = ["dash", "solid", "longdash"];

function stylePreset(place: number): RuleStyle {
  return {
    rank: 2 * (LEGEND.length + 2) + place,
    color: `@series${(NUM_SERIES_COLORS - PRESET_NAMES.length + place) % NUM_SERIES_COLORS}`,
    symbol: PRESET_SYMBOLS[place % PRESET_SYMBOLS.length]!,
    dash: PRESET_DASHES[place % PRESET_DASHES.length]!,
    main: true,
  };
}

/** The name of a method without the requested ratio: `paper at 0.3` is `paper`. */
export const withoutRatio = (name: string): string => name.replace(/ at 0\.\d+$/, "");

/** A mark with a dot; an open one where plotly has none with a dot: it would draw a circle instead of it. */
const dotted = (symbol: string): string =>
  /^(hourglass|bowtie|.*-x)(-open)?$/.test(symbol) ? symbol.replace(/(-open)?$/, "-open") : `${symbol}-dot`;

/** Looks of a method, also `… inverted`, `… on keys`, `random for …`, `… shuffled`; of presets, and of a reader's rules. */
export function styleRule(shown: string): RuleStyle {
  const name = withoutRatio(shown);
  const ordered = name.replace(/ shuffled$/, "");
  if (ordered !== name) {
    const own = styleRule(ordered);
    return { ...own, symbol: dotted(own.symbol.replace(/(-open)?(-dot)?$/, "-open")), dash: "dot" };
  }
  const preset = PRESET_NAMES.indexOf(name), rule = name.split(" for ")[0]!;
  if (preset >= 0) return stylePreset(preset);
  const [first] = rule.split(" + "), bare = first!.replace(/ on keys$/, "");
  if (bare !== rule) {
    const own = styleRule(bare);
    return { ...own, symbol: own.symbol.startsWith("hourglass") ? "bowtie" : dotted(own.symbol) };
  }
  const plain = rule.replace(/ inverted$/, ""), inverted = plain !== rule;
  const method = findMethod(plain), chance = RANDOM_LOOKS[RANDOM.indexOf(plain) % RANDOM_LOOKS.length];
  const place = LEGEND.indexOf(plain), own = place < 0 ? LEGEND.length : place;
  const isControl = !inverted || method === undefined || ("inverted" in method && method.inverted === true);
  return {
    rank: 2 * (chance ? LEGEND.length + 1 : own) + Number(inverted),
    color: chance ? "@muted" : `@series${own % NUM_SERIES_COLORS}`,
    symbol: `${chance?.[0] ?? SYMBOLS[own % SYMBOLS.length]}${inverted ? "-open" : ""}`,
    dash: chance?.[1] ?? (inverted ? "dash" : own < NUM_SERIES_COLORS ? "solid" : "dashdot"),
    main: (method?.looks?.main ?? true) && isControl,
  };
}

/** Addition to a caption where some rules are hidden at first. */
export const HIDDEN_NOTE = " Pale names show when pressed.";

export function visibilityOf(rule: string): boolean | "legendonly" {
  return styleRule(rule).main || "legendonly";
}
