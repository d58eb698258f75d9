/** The page "What does it forget?" as readers see it: live, with a file of their own, recorded, and as one file. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { openWasm } from "../../ffi/wasm/mod.ts";
import { scoreSequence } from "../../lib/eval/mod.ts";
import { createPruner } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import { browserTest } from "../../lib/plot/figure/testing.ts";
import { openBrowser } from "../../lib/plot/mod.ts";
import { IN_SLOW_TIER } from "../../lib/testing.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { withFolder } from "../commands/testing.ts";
import type { Recording } from "../studies/retrieval/record.ts";
import { ensurePackages } from "../tools/docs/main.ts";
import { serveSite } from "../tools/docs/testing.ts";
import { buildPage, ONE_FILE } from "./build.ts";

type Browser = Awaited<ReturnType<typeof openBrowser>>;
type Page = Awaited<ReturnType<Browser["newPage"]>>;
const MODEL = new URL("../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);

/** Opens the page and waits until both methods have run; what fails in it is noted in `problems`. */
async function openAt(
  browser: Browser,
  url: string,
  problems: string[],
  width = 1440,
  dark = false,
): Promise<Page> {
  const colorScheme = dark ? "dark" : "light";
  const page = await browser.newPage({
    viewport: { width, height: 900 },
    colorScheme,
    reducedMotion: "reduce",
  });
  page.setDefaultTimeout(60_000);
  page.on("pageerror", ({ message }) => problems.push(message));
  page.on("console", (said) => said.type() === "error" && problems.push(said.text()));
  await page.goto(url);
  return page;
}

const ranAt = (page: Page, ratio: number) =>
  page.waitForFunction(
    `["a", "b"].every((id) => document.getElementById("live-" + id).dataset.ratio === "${ratio}")`,
  );
const textOf = (page: Page, selector: string) => page.locator(selector).innerText();
const countGone = (page: Page, place: string) => page.locator(`#${place} .tokens .gone`).count();
/** What a reader sees of the settings and of the words of both methods. */
const lookAt = (page: Page) =>
  page.evaluate(`[
    ...["a", "b", "side", "whole", "ratio", "scope", "text"].map((id) => document.getElementById(id).value),
    document.getElementById("heads").checked,
    ...[...document.querySelectorAll("#live .tokens")].map((words) => words.innerHTML),
  ]`);

browserTest(
  "the page shows what a model forgets, live and recorded, and stays usable after bad input",
  () =>
    withFolder(async (folder) => {
      await buildPage(`${folder}/forget`);
      await using server = serveSite(folder);
      await using browser = await openBrowser();
      const base = `http://127.0.0.1:${server.addr.port}/b/forget/`, problems: string[] = [];
      const page = await openAt(browser, base, problems);
      await ranAt(page, 0.5);

      // The numbers are the library's own, for the same text and options.
      const backend = await openWasm(), { model, tokenizer, config } = await loadModel("tiny", backend);
      const ids = tokenizer.encode(await page.locator("#text").inputValue(), { bos: tokenizer.addsBos });
      const windows = { warmup: 8, recent: 8, block: 8 }, context = { backend };
      const options = { side: "key", kvFusion: "key", pruneRatio: 0.5, tail: 1, ...windows } as const;
      const full = scoreSequence(model, ids),
        own = scoreSequence(model, ids, createPruner("token-filtering", config, options, context));
      const added = Math.log(own.perplexity) - Math.log(full.perplexity);
      const cards = await textOf(page, "#live-a .cards");
      assertStringIncludes(cards, `+${added.toFixed(3)}`);
      assertStringIncludes(cards, `${full.perplexity.toFixed(1)} → ${own.perplexity.toFixed(1)}`);
      const held = own.kvKeep.reduce((sum, mask) => sum + mask.reduce((a, b) => a + b, 0), 0) /
        (ids.length * config.numLayers);
      assertStringIncludes(cards, `${(100 * held).toFixed(0)}%`);

      // A slider changes words, by keyboard too.
      const gone = await countGone(page, "live-a");
      await page.locator("#ratio").fill("0.85");
      await ranAt(page, 0.85);
      assert(await countGone(page, "live-a") > gone + 10, "more words are gone at 0.85");
      await page.locator("#ratio").press("ArrowRight");
      await ranAt(page, 0.9);
      await page.locator("#live-a .map").focus();
      await page.keyboard.press("ArrowDown");
      assertMatch(await textOf(page, "#live-a .readout"), /^“.*”, token \d+, layer 1: /);
      await page.keyboard.press("Enter");
      assertEquals(await page.locator("#scope").inputValue(), "1");

      // A link restores the settings, the text among them.
      await page.locator("#heads").check();
      await page.locator("#whole").selectOption("heads");
      await page.locator("#b").selectOption("snapkv");
      await page.locator("#text").fill("The boy asked who had the map, and the captain laughed. ".repeat(9));
      await page.locator("#ratio").fill("0.6");
      await ranAt(page, 0.6);
      await page.waitForFunction(`document.getElementById("status").textContent.includes("does not copy")`);
      assert(await page.evaluate(`location.hash.includes("text=The+boy")`));
      const other = await openAt(browser, page.url(), problems);
      await ranAt(other, 0.6);
      assertEquals(await lookAt(other), await lookAt(page));
      await other.close();

      // Bad input is one line, and the page goes on.
      const refused = async (line: RegExp) => {
        await page.waitForFunction(`${line}.test(document.getElementById("error").textContent)`);
        const text = await textOf(page, "#error");
        assert(!text.includes("\n"), text);
      };
      await Deno.writeFile(`${folder}/broken.gguf`, new Uint8Array(999));
      await page.locator("#file").setInputFiles(`${folder}/broken.gguf`);
      await refused(/^Cannot read "broken\.gguf"/);
      await page.locator("#ratio").fill("0.7");
      await ranAt(page, 0.7);
      assertEquals(await textOf(page, "#error"), "");
      const drop = (size: string) =>
        page.evaluate(`(() => {
        const file = new File(["no model"], "mine.gguf");
        Object.defineProperty(file, "size", { value: ${size} });
        const event = new DragEvent("drop", { bubbles: true });
        Object.defineProperty(event, "dataTransfer", { value: { files: [file] } });
        document.body.dispatchEvent(event);
      })()`);
      await drop("8");
      await refused(/^Cannot read "mine\.gguf"/);
      await drop("5e9");
      await refused(/^Cannot open "mine\.gguf": found 5000 MB, expected at most 3758 MB/);
      await page.locator("#text").fill("It was a dark night, and the wind blew. ".repeat(80));
      await refused(
        /^Cannot read all of the text: found \d+ tokens, expected at most 512; the last \d+ are left out$/,
      );
      await page.waitForFunction(`document.querySelectorAll("#live .tokens > *").length === 1024`);
      await page.locator("#text").fill("");
      await refused(/^Cannot run a text of \d tokens/);
      await page.locator("#text").fill("The sea was calm, and the boat went out.");
      await page.locator("#ratio").fill("0.5");
      await ranAt(page, 0.5);

      // A file of the reader's own.
      await Deno.copyFile(MODEL, `${folder}/own.gguf`);
      await page.locator("#file").setInputFiles(`${folder}/own.gguf`);
      await page.waitForFunction(
        `document.getElementById("model").textContent.startsWith("own.gguf: 10 layers of 3 KV heads")`,
      );

      // The recording: what is shown is what was recorded.
      const recorded: Recording = JSON.parse(await Deno.readTextFile(`${folder}/forget/recording.json`));
      for (const [at, ratio] of [undefined, ...recorded.settings.ratios].entries()) {
        await page.locator("#needle").fill(String(at));
        for (const whole of recorded.settings.wholes) {
          const { runs, full } = recorded.texts[1]!;
          const run = runs.find((own) => own.rule === "key" && own.whole === whole && own.ratio === ratio);
          const { found, said } = run ?? full, place = `#needles-${whole}`;
          assertEquals(
            await page.locator(`${place} .cards .${found ? "good" : "bad"}`).count(),
            1,
            `${whole}, ${ratio}`,
          );
          assertStringIncludes(
            await textOf(page, `${place} .cards`),
            `${found ? "✓" : "✗"} ${said.slice(0, 7).split("\n")[0]}`,
          );
          const gone = await countGone(page, `needles-${whole}`);
          assert(
            ratio === undefined ? gone === 0 : gone > 0 || ratio < 0.6,
            `${whole}, ${ratio}: ${gone} words are gone`,
          );
        }
      }
      await page.close();

      // Without the library the recorded part still works.
      const without = await browser.newPage();
      without.setDefaultTimeout(60_000);
      await without.route("**/tokenfilter.wasm", (route) => route.fulfill({ body: "no library" }));
      await without.goto(base);
      await without.waitForFunction(`document.getElementById("error").textContent.startsWith("Cannot ")`);
      assert(await without.locator("#needles-heads .gone").count() > 0);
      await without.close();

      const axe = await Deno.readTextFile(
        `${await ensurePackages(new Progress(undefined))}/node_modules/axe-core/axe.min.js`,
      );
      for (const [width, dark] of [[1440, false], [1440, true], [390, false], [390, true]] as const) {
        const page = await openAt(browser, `${base}#ratio=0.8&heads=1`, problems, width, dark);
        await ranAt(page, 0.8);
        await page.addScriptTag({ content: axe });
        const found = await page.evaluate(
          `axe.run().then(({ violations }) => violations.map((own) => own.id + ": " + own.nodes[0].target))`,
        );
        assertEquals(found, [], `${width} px`);
        assert(
          await page.evaluate(`document.documentElement.scrollWidth <= innerWidth`),
          `wider than ${width} px`,
        );
        await page.close();
      }

      // One file, from the disk: it asks nobody for anything.
      const asked: string[] = [], one = await browser.newPage();
      one.setDefaultTimeout(60_000);
      one.on("request", (request) => /^(data|blob|file):/.test(request.url()) || asked.push(request.url()));
      await one.goto(`file://${await Deno.realPath(`${folder}/forget/${ONE_FILE}`)}`);
      await ranAt(one, 0.5);
      assert(await one.locator("#needles-heads .gone").count() > 0);
      assertEquals([asked, problems], [[], []]);
    }),
  IN_SLOW_TIER,
);
