/** Colours by name, for light and dark pages. Readers with colour blindness can distinguish the colours of series too. */
import { type Json, mapTexts } from "./json.ts";

/** @internal A theme: colours by name. */
export type Theme = { readonly [name: string]: string };

export const NUM_SERIES_COLORS = 8;

const numbered = (name: string, colors: string) =>
  Object.fromEntries(colors.split(" ").map((color, i) => [`@${name}${i}`, color]));

/**
 * Colours on white. `@band0` and `@band1` are the transparent colours of series 0 and 1. The hues of the series are
 * about those of Okabe and Ito. Their lightness is chosen so that readers with any colour vision can distinguish them.
 */
export const LIGHT: Theme = {
  "@ink": "#1b1f24",
  "@muted": "#59636e",
  "@grid": "#e4e7eb",
  "@card": "#ffffff",
  "@band": "rgba(89, 99, 110, 0.20)",
  "@band0": "rgba(0, 114, 178, 0.16)",
  "@band1": "rgba(200, 80, 10, 0.16)",
  ...numbered("series", "#0072b2 #c8500a #009f77 #a22e6d #684700 #7485b0 #4d3483 #945c46"),
  ...numbered("heat", "#f4f7fb #c9dcee #86b4da #3c82bb #0b4a80"),
  ...numbered("diverge", "#0b4a80 #86b4da #f4f5f7 #eeb182 #a34700"), // below 0, 0, above 0
};

export const DARK: Theme = {
  "@ink": "#e8eaed",
  "@muted": "#9aa4af",
  "@grid": "#2c333b",
  "@card": "#1e242b",
  "@band": "rgba(154, 164, 175, 0.26)",
  "@band0": "rgba(90, 180, 240, 0.20)",
  "@band1": "rgba(255, 148, 87, 0.20)",
  ...numbered("series", "#5ab4f0 #ff9457 #06e2ba #d079ba #ffd865 #a7d0ed #6d77ce #caa18e"),
  ...numbered("heat", "#1a222b #1e4164 #2b6ca3 #5ba3dc #c3e1fb"),
  ...numbered("diverge", "#9bd0fb #2f6796 #23292f #8f5023 #ffb27c"),
};

/**
 * A copy of a figure's parts with every colour name replaced by the theme's colour.
 *
 * @throws {RangeError} If a string begins with `@` and is no name of the theme.
 */
export function applyTheme<T extends Json>(value: T, theme: Theme): T {
  return mapTexts(value, (text) => {
    if (!text.startsWith("@")) return text;
    const color = theme[text];
    if (color === undefined) {
      throw new RangeError(`Cannot draw colour "${text}": the theme has no such name`);
    }
    return color;
  });
}
