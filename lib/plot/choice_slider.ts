/** A slider over a plot that shows the traces of one choice (a layer, a view) at a time. */
import type { Json, JsonObject } from "./figure.ts";

/** Traces of one choice. */
export interface Choice {
  /** What the slider says where it stands here. */
  readonly label: string;
  /** Traces that are seen while it does. */
  readonly traces: readonly JsonObject[];
}

/**
 * Lays out choices: all traces, those of one choice visible.
 *
 * @param what What is chosen, such as `layer`.
 * @param shown Index of the choice seen first; the middle one where nothing is said.
 * @param always Traces that are always seen, behind the others.
 * @returns Traces, and entries for the layout: the slider, none where there is only one choice.
 */
export function choose(
  what: string,
  choices: readonly Choice[],
  { shown = choices.length >> 1, always = [] }: { shown?: number; always?: readonly JsonObject[] } = {},
): { readonly data: JsonObject[]; readonly layout: JsonObject } {
  const visible = (choice: number) => [
    ...always.map(() => true),
    ...choices.flatMap(({ traces }, i) =>
      traces.map((trace) => i === choice ? trace.visible ?? true : false)
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
    pad: { t: 0, b: 14, l: 0, r: 0 },
    currentvalue: { prefix: `${what} `, font: { size: 13, color: "@ink" }, offset: 6 },
    font: { size: 10, color: "@muted" },
    bgcolor: "@grid",
    activebgcolor: "@muted",
    bordercolor: "@muted",
    borderwidth: 1,
    tickcolor: "@muted",
    minorticklen: 0,
    ticklen: 4,
    steps: choices.map(({ label }, i) => ({ label, method: "restyle", args: [{ visible: visible(i) }] })),
  };
  return { data, layout: { sliders: [slider] } };
}
