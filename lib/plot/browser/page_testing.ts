/**
 * Opens pages of plots in a headless Chromium and looks at them as a reader would: narrow and wide, light and dark.
 *
 * Every plot must have drawn, without an error in the console. No label may overlap another or be cut off. The page may
 * not be wider than its window.
 */
import type { Browser, Page } from "playwright-core";
import { openBrowser, PATIENCE_MS } from "../mod.ts";
import { inspectPage } from "./inspect.js";

export { openBrowser } from "../mod.ts";

/** How a page is looked at. */
export interface CheckOptions {
  /** Widths of the window in pixels. Default 360 and 1280. */
  readonly widths?: readonly number[];
  /** The colour scheme of the reader's system. Default both. */
  readonly schemes?: readonly ("light" | "dark")[];
  /** Folder for a picture of the whole page each time; made where it is missing. Default: none are kept. */
  readonly screenshots?: string;
  /** Beginning of the pictures' names. Default: the page's file name without its ending. */
  readonly name?: string;
  /** Milliseconds in which all plots must have drawn. Default: as for a page, 300,000. */
  readonly timeoutMs?: number;
  /** A browser that is open already; it is left open. Default: one of its own. */
  readonly browser?: Browser;
}

/** Each width and each scheme once: overflow depends on the width, and colors on the scheme. */
export const VIEWS: readonly CheckOptions[] = [
  { widths: [360], schemes: ["dark"] },
  { widths: [1280], schemes: ["light"] },
];

/** The result of a check. */
export interface PageCheck {
  /** Plots that drew, in the view with the fewest. */
  readonly plots: number;
  /** Problems, one line each, with the view; empty if there are none. */
  readonly problems: readonly string[];
  /** Addresses that the page asked for, besides files. */
  readonly requests: readonly string[];
  /** Paths of the pictures. */
  readonly screenshots: readonly string[];
}

/**
 * Looks at a page in every width and scheme.
 *
 * @param path Path of an HTML file.
 * @throws {ChromiumError} If there is no Chromium.
 */
export async function checkPage(path: string, options: CheckOptions = {}): Promise<PageCheck> {
  const { widths = [360, 1280], schemes = ["light", "dark"], screenshots: folder } = options;
  await using own = options.browser === undefined ? await openBrowser() : undefined;
  const browser = options.browser ?? own!;
  const problems: string[] = [], pictures: string[] = [], requests = new Set<string>();
  let plots = Infinity;
  if (folder !== undefined) await Deno.mkdir(folder, { recursive: true });
  const address = new URL(`file://${encodeURI(await Deno.realPath(path))}`).href;
  const name = options.name ?? path.split(/[/\\]/).at(-1)!.replace(/\.html?$/, "");
  for (const width of widths) {
    let view = `${width} px`;
    const page = await browser.newPage({
      viewport: { width, height: 900 },
      colorScheme: schemes[0] ?? null,
    });
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(`${view}: console: ${message.text()}`);
    });
    page.on("pageerror", (error) => problems.push(`${view}: error: ${error.message}`));
    page.on("request", (request) => {
      if (!/^(file|data|blob):/.test(request.url())) requests.add(request.url());
    });
    // Opened once per width: readers switch between light and dark while the page is open.
    for (const [i, colorScheme] of schemes.entries()) {
      view = `${width} px, ${colorScheme}`;
      if (i === 0) await page.goto(address, { waitUntil: "load" });
      else await page.emulateMedia({ colorScheme });
      await settle(page, options.timeoutMs ?? PATIENCE_MS);
      const seen = await page.evaluate(inspectPage);
      plots = Math.min(plots, seen.drawn);
      problems.push(...seen.problems.map((problem: string) => `${view}: ${problem}`));
      if (folder !== undefined) {
        const picture = `${folder}/${name}_${width}_${colorScheme}.png`;
        await page.screenshot({ path: picture, fullPage: true });
        pictures.push(picture);
      }
    }
    await page.close();
  }
  return { plots, problems, requests: [...requests], screenshots: pictures };
}

/** Waits until every plot is drawn and nothing moves; a page that never comes to rest is checked as it is. */
async function settle(page: Page, timeoutMs: number): Promise<void> {
  await page.evaluate(`globalThis.numChanges ??= (() => {
    const all = { subtree: true, childList: true, attributes: true, characterData: true };
    new MutationObserver(() => globalThis.numChanges++).observe(document.body, all);
    return 0;
  })()`);
  const state = `(() => {
    const places = [...document.querySelectorAll(".plot, .tokenfilter-plot")];
    const open = places.filter((place) => place.querySelector("svg.main-svg") === null).length;
    return open + " " + globalThis.numChanges + " " + document.body.scrollHeight;
  })()`;
  const end = performance.now() + timeoutMs;
  let before = "", calm = 0;
  while (performance.now() < end && calm < 3) {
    const now: string = await page.evaluate(state);
    calm = now === before && now.startsWith("0 ") ? calm + 1 : 0;
    before = now;
    await page.waitForTimeout(100);
  }
}
