/** Time and memory against the length of a sequence, a curve a method. */
import type { LengthRow } from "../../../eval/lengths.ts";
import { METHOD_NAMES } from "../../../methods/list.ts";
import { axis, emptyFigure, escapeText, type Figure } from "../../figure/figure.ts";
import { chart, trace } from "../../figure/parts.ts";
import { styleRule } from "../../trials/rule_style.ts";
import { NUM_SERIES_COLORS } from "../../figure/theme.ts";

/** @internal The measure that a plot shows against length; `whole` times end with the logits of a step's last token. */
export type LengthMeasure = "prefill" | "decode" | "memory" | "whole prefill" | "whole decode";

interface LengthCurve {
  readonly name: string;
  readonly tokens: readonly number[];
  /** Milliseconds, or megabytes. */
  readonly values: readonly number[];
  /** Each value over that of `dense` at the same length; null where it was not measured. */
  readonly overDense: readonly (number | null)[];
}

/** @internal The numbers of the plot. */
export interface LengthCurves {
  readonly measure: LengthMeasure;
  /** In the order in which methods were measured. */
  readonly curves: readonly LengthCurve[];
}

/** Gathers one measure; methods without it (a non-causal method cannot decode) are left out. */
export function collectLengths(rows: readonly LengthRow[], measure: LengthMeasure): LengthCurves {
  const valueOf = (row: LengthRow) => {
    if (measure === "memory") return row.kvBytesHeld / 1e6;
    return measure.endsWith("prefill") ? row.prefillMs : row.decodeMs;
  };
  const dense = new Map(rows.filter(({ name }) => name === "dense").map((row) => [row.tokens, valueOf(row)]));
  const curves = [...Map.groupBy(rows, ({ name }) => name)].map(([name, own]) => {
    const points = own.filter((row) => valueOf(row) !== null).sort((a, b) => a.tokens - b.tokens);
    return {
      name,
      tokens: points.map(({ tokens }) => tokens),
      values: points.map((row) => valueOf(row)!),
      overDense: points.map((row) => {
        const base = dense.get(row.tokens);
        return base ? valueOf(row)! / base : null;
      }),
    };
  });
  return { measure, curves: curves.filter(({ tokens }) => tokens.length > 0) };
}

const WORDS = {
  prefill: {
    title: "Prefill time against length",
    axis: "prefill (ms)",
    caption: "Median wall time of the prefill of a sequence, without the output layer.",
  },
  decode: {
    title: "Decode time against length",
    axis: "one token (ms)",
    caption: "Median wall time of one more token after the prefill, without the output layer.",
  },
  memory: {
    title: "Memory of keys and values against length",
    axis: "KV cache (MB)",
    caption:
      "Keys and values in use after the prefill, the recent window's included; positions are not counted.",
  },
  "whole prefill": {
    title: "Prefill time compared with other engines",
    axis: "prefill (ms)",
    caption: "Median wall time of the prefill of a sequence, up to the logits of its last token.",
  },
  "whole decode": {
    title: "Decode time compared with other engines",
    axis: "one token (ms)",
    caption: "Median wall time of one more token after the prefill, up to its logits.",
  },
} as const;

/** A method that is named for a rule has its colour: `learned, half skipped`. */
function colorOf(name: string, i: number): string {
  const rule = name.split(/[ ,]/)[0]!;
  if (name === "dense") return "@muted";
  return METHOD_NAMES.some((known) => known === rule)
    ? styleRule(rule).color
    : `@series${i % NUM_SERIES_COLORS}`;
}

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"];

/** Draws a curve a method, on logarithmic axes for times. */
export function plotLengths({ measure, curves }: LengthCurves): Figure {
  const words = WORDS[measure], unit = measure === "memory" ? "MB" : "ms";
  if (curves.length === 0) {
    return emptyFigure(
      words.title,
      "Nothing was measured here: run deno task bench --only lengths --out DIR",
    );
  }
  const lengths = [...new Set(curves.flatMap(({ tokens }) => tokens))].sort((a, b) => a - b);
  // Engines are far apart in decode too: on an axis from 0, the slowest would hide the differences between the others.
  const ticks = measure.endsWith("prefill") ? 1 : measure === "whole decode" ? "D2" : undefined;
  return chart({
    title: words.title,
    caption: `${words.caption} Lower is better.`,
    height: 380,
    data: curves.map(({ name, tokens, values, overDense }, i) => {
      const color = colorOf(name, i);
      return trace({
        name: escapeText(name),
        x: tokens,
        y: values,
        hover: values.map((value, k) =>
          [
            `<b>${escapeText(name)}</b>, ${tokens[k]} tokens`,
            `${Number(value.toPrecision(4))} ${unit}`,
            ...(overDense[k] == null || name === "dense"
              ? []
              : [`${overDense[k]!.toFixed(3)} of the full model`]),
          ].join("<br>")
        ),
        line: { color, width: 2, dash: name === "dense" ? "dot" : "solid" },
        marker: { color, size: 8, symbol: SYMBOLS[i % SYMBOLS.length]! },
      });
    }),
    xaxis: axis("tokens", {
      ...(lengths.at(-1)! >= 8 * lengths[0]! ? { type: "log" } : {}),
      tickmode: "array",
      tickvals: thin(lengths),
      ticktext: thin(lengths).map(String),
    }),
    yaxis: axis(words.axis, ticks === undefined ? { rangemode: "tozero" } : { type: "log", dtick: ticks }),
  });
}

/** At most six values, the last one among them, so that they fit a narrow page. */
function thin(values: readonly number[]): number[] {
  const step = Math.ceil(values.length / 6);
  return values.filter((_, i) => (values.length - 1 - i) % step === 0);
}
