import { assert, assertEquals, assertThrows } from "@std/assert";
import { makeSummary, makeTrial } from "../testing.ts";
import { plotSweep } from "../reports/sweep.ts";
import { applyTheme, DARK, LIGHT, NUM_SERIES_COLORS, type Theme } from "./theme.ts";

Deno.test("applyTheme() replaces every colour name and nothing else", () => {
  assertEquals(applyTheme({ a: ["@ink", 1, null], b: "ink@" }, LIGHT), {
    a: [LIGHT["@ink"]!, 1, null],
    b: "ink@",
  });
  assertThrows(() => applyTheme("@none", LIGHT), RangeError, "@none");
});

Deno.test("themes have the same names, and every figure draws in both", () => {
  assertEquals(Object.keys(LIGHT), Object.keys(DARK));
  const rules = [
    "learned",
    "variance",
    "oracle",
    "mean",
    "key",
    "value",
    "static",
    "min",
    "max",
    "product",
    "random",
  ];
  const summary = makeSummary(rules.map((fusion) => makeTrial({ fusion: fusion as "key" }, 0.5, 50)));
  for (const figure of plotSweep(summary)) {
    for (const theme of [LIGHT, DARK]) {
      assertEquals(JSON.stringify(figure.toJson(theme)).includes('"@'), false);
    }
  }
});

/** Colour vision without one kind of cones, on linear RGB (Machado, Oliveira, Fernandes 2009, severity 1). */
const EYES = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [
    -0.003882,
    -0.048116,
    1.051998,
  ]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [
    -0.01182,
    0.04294,
    0.968881,
  ]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [
    0.004733,
    0.691367,
    0.3039,
  ]],
};
const XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]];
const times = (m: readonly (readonly number[])[], v: readonly number[]) =>
  m.map((row) => row.reduce((sum, x, i) => sum + x * v[i]!, 0));

function linear(color: string): number[] {
  return color.match(/[0-9a-f]{2}/g)!.map((hex) => {
    const c = parseInt(hex, 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
}

/** CIE L*a*b* of a colour as eyes of a kind see it. */
function labOf(color: string, eyes: readonly (readonly number[])[]): number[] {
  const seen = times(eyes, linear(color)).map((c) => Math.min(1, Math.max(0, c)));
  const white = [0.9505, 1, 1.089];
  const [x, y, z] = times(XYZ, seen).map((c, i) => c / white[i]!)
    .map((t) => t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  return [116 * y! - 16, 500 * (x! - y!), 200 * (y! - z!)];
}

Deno.test("all eyes can distinguish the colours of series, also from the background", () => {
  const seriesOf = (theme: Theme) =>
    Array.from({ length: NUM_SERIES_COLORS }, (_, i) => theme[`@series${i}`]!);
  const light = (color: string) => times(XYZ, linear(color))[1]! + 0.05;
  for (const theme of [LIGHT, DARK]) {
    const colors = seriesOf(theme);
    for (const [kind, eyes] of Object.entries(EYES)) {
      const labs = colors.map((color) => labOf(color, eyes));
      labs.forEach((a, i) =>
        labs.slice(0, i).forEach((b, j) => {
          const apart = Math.hypot(...a.map((x, k) => x - b[k]!));
          assert(apart > 15, `${colors[i]} and ${colors[j]}, ${kind}: ${apart.toFixed(1)}`);
        })
      );
    }
    for (const color of colors) {
      const ratio = light(color) / light(theme["@card"]!);
      assert(Math.max(ratio, 1 / ratio) > 3, `${color} on ${theme["@card"]}`);
    }
  }
});
