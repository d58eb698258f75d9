/** What tests of drawing need. */
import { findChromium } from "./chromium.ts";

/** Why a test that draws does not run here. */
export const NO_CHROMIUM = findChromium() === undefined && "found no Chromium";
