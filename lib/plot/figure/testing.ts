/** Tests that need a browser: of the slow tier, and ignored, saying so, where there is none. */
import { IN_SLOW_TIER, unless } from "../../testing.ts";
import { findChromium } from "./chromium.ts";

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
