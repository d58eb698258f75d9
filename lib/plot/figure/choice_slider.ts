/** A slider over a plot that shows the traces of one choice (a layer, a view) at a time. */
import type { Json, JsonObject } from "./figure.ts";

export interface Choice {
  readonly label: string;
  readonly traces: readonly JsonObject[];
  /** Entries of the layout while it is chosen, by attribute: `xaxis.range`. All choices have the same. */
  readonly layout?: JsonObject;
}

interface ChooseOptions {
  /** Index of the choice seen first. Default: the middle one. */
  readonly shown?: number;
  /** Traces that are always seen, behind the others. */
  readonly always?: readonly JsonObject[];
  /** Pixels between the slider and the axes. */
  readonly gap?: number;
}

/**
 * Lays out choices: all traces, those of one choice visible.
 *
 * @param what The thing that is chosen, such as `layer`.
 * @returns Traces, and entries for the layout: the slider, none where there is only one choice.
 */
export function choose(
  what: string,
  choices: readonly Choice[],
  { shown = choices.length >> 1, always = [], gap = 14 }: ChooseOptions = {},
): { readonly data: JsonObject[]; readonly layout: JsonObject } {
  const visible = (choice: number) => [
    ...always.map(() => true),
    ...choices.flatMap(({ traces }, i) =>
      traces.map((trace) => i === choice ? trace["visible"] ?? true : false)
    ),
  ];
  const seen = visible(shown);
  const data = [...always, ...choices.flatMap(({ traces }) => traces)]
    .map((trace, i) => ({ ...trace, visible: seen[i]! }));
  if (choices.length < 2) return { data, layout: {} };
  const slider: Json = {
    active: shown,
    x: 0,
    len: 1,
    y: 1,
    yanchor: "bottom",
    // Half of the labels at the ends hangs over.
    pad: { t: 0, b: gap, l: overhang(choices[0]!), r: overhang(choices.at(-1)!) },
    currentvalue: { prefix: `${what} `, font: { size: 13, color: "@ink" }, offset: 6 },
    font: { size: 10, color: "@muted" },
    bgcolor: "@grid",
    activebgcolor: "@muted",
    bordercolor: "@muted",
    borderwidth: 1,
    tickcolor: "@muted",
    minorticklen: 0,
    ticklen: 4,
    steps: choices.map(({ label, layout = {} }, i) => ({
      label,
      method: "update",
      args: [{ visible: visible(i) }, layout],
    })),
  };
  return { data, layout: { sliders: [slider] } };
}

/** Lays out layers, one at a time, with the same axes. @param always Traces that are always seen, behind the others. */
export function chooseLayer<L extends { readonly layer: number }>(
  layers: readonly L[],
  tracesOf: (layer: L) => readonly JsonObject[],
  always: readonly JsonObject[] = [],
): ReturnType<typeof choose> {
  const choices = layers.map((layer) => ({ label: String(layer.layer), traces: tracesOf(layer) }));
  return choose("layer", choices, { always });
}

/** Pixels by which a label reaches past the end of the slider, when plotly's own margin is used up. */
function overhang({ label }: Choice): number {
  return Math.max(0, Math.ceil(3 * label.length - 8));
}
