/** Tests that need a browser: ignored, and saying so, where there is none. */
import { findChromium } from "../../lib/plot/mod.ts";

/** Declares a test that runs where there is a Chromium. */
export function browserTest(name: string, fn: () => Promise<void>): void {
  const ignore = findChromium() === undefined;
  // The driver keeps its pipes to a browser for a moment after it has closed.
  const loose = { sanitizeOps: false, sanitizeResources: false };
  Deno.test({ name: ignore ? `${name} (ignored: no Chromium here)` : name, ignore, ...loose, fn });
}
