/**
 * Draws the picture of the page for README: the recorded numbers, light and dark, docs/images/forget_SCHEME.png.
 *
 * usage: deno run -A experiments/forget/picture.ts
 */
import { fileURLToPath } from "node:url";
import { openBrowser } from "../../lib/plot/mod.ts";
import { serveSite } from "../tools/docs/testing.ts";
import { buildPage } from "./build.ts";

const IMAGES = new URL("../../docs/images/", import.meta.url);
const WIDTH = 1080;

if (import.meta.main) {
  const folder = await Deno.makeTempDir();
  try {
    await buildPage(`${folder}/forget`);
    await using server = serveSite(folder);
    await using browser = await openBrowser();
    for (const colorScheme of ["light", "dark"] as const) {
      const page = await browser.newPage({ viewport: { width: WIDTH, height: 900 }, colorScheme });
      await page.goto(`http://127.0.0.1:${server.addr.port}/b/forget/`);
      await page.locator("#needles-heads .gone").first().waitFor();
      // Only the recorded part, with a few lines of the text.
      await page.addStyleTag({
        content: `#live, header, footer { display: none } .controls { position: static }
          #needles .tokens { max-height: 128px } #needles h2 { margin-top: 20px }`,
      });
      await page.locator("#needle").press("ArrowLeft");
      await page.locator("#needle").press("ArrowRight");
      await page.locator("#needles-title").click();
      const { y: end } = (await page.locator("#needles .honest").boundingBox())!, y = 0;
      const path = fileURLToPath(new URL(`forget_${colorScheme}.png`, IMAGES));
      await page.screenshot({ path, fullPage: true, clip: { x: 0, y, width: WIDTH, height: end - y } });
      await page.close();
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
