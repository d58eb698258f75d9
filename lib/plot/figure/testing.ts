/** Tests of figures. Those that need a browser are of the slow tier, and ignored with the reason where there is none. */
import { IN_SLOW_TIER, unless } from "../../testing.ts";
import { findChromium } from "./chromium.ts";
import { axis, baseLayout, Figure } from "./figure.ts";

/** Declares a test that runs where there is a Chromium. */
export function browserTest(name: string, fn: () => Promise<void>, why?: string | false): void {
  // The driver keeps its pipes to a browser for a moment after it has closed.
  const loose = { sanitizeOps: false, sanitizeResources: false };
  Deno.test({
    ...unless(findChromium() === undefined && "found no Chromium" || IN_SLOW_TIER || why, name),
    ...loose,
    fn,
  });
}

/** A figure whose texts have signs that HTML escapes. */
export const makeFigure = (name: string) =>
  new Figure({
    title: `Loss of "${name}" </script>`,
    caption: "Two points & a <line>.",
    height: 240,
    data: [
      { type: "scatter", name, x: [0, 1], y: [1.23456, 2], text: ["a", "b"], line: { color: "@series0" } },
    ],
    layout: baseLayout({ xaxis: axis("steps"), yaxis: axis("loss (nats)") }),
  });
