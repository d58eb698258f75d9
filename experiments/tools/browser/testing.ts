/** Tests that need a browser: ignored, and saying so, where there is none. */
import { NO_CHROMIUM } from "../../../lib/plot/figure/testing.ts";
import { unless } from "../../../lib/testing.ts";

/** Declares a test that runs where there is a Chromium. */
export function browserTest(name: string, fn: () => Promise<void>): void {
  // The driver keeps its pipes to a browser for a moment after it has closed.
  const loose = { sanitizeOps: false, sanitizeResources: false };
  Deno.test({ ...unless(NO_CHROMIUM, name), ...loose, fn });
}
