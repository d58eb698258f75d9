/** `deno task docs`: its refusals, the pages that VitePress reads, and the built site as readers see it. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { openBrowser } from "../../../lib/plot/mod.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { IN_SLOW_TIER } from "../../../lib/testing.ts";
import { runTask, withFolder } from "../../commands/testing.ts";
import { command } from "./main.ts";
import { readSidebar, stagePages } from "./stage.ts";
import { serveSite } from "./testing.ts";

Deno.test("docs refuses what it cannot use in one line, writes nothing, and leaves with exit code 2", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/mine.txt`, "kept");
    for (
      const [args, line] of [
        [["--port", "80"], /^Cannot use flag "--port": "docs" has no such flag/],
        [["--out"], /^Cannot use --out: found no value/],
        [["page.md"], /^Cannot use argument "page.md": expected only flags/],
        [["--base", "docs"], /^Cannot use --base "docs": expected a path from slash to slash/],
        [["--out", folder], /^Cannot write to ".*": found files that are no earlier site/],
        [["--out", `${folder}/mine.txt`], /^Cannot write to ".*": found files that are no earlier site/],
        [["--out", `${folder}/mine.txt/site`], /^Cannot write to ".*": a part of the path is a file/],
      ] as const
    ) {
      const { message } = await assertRejects(() => command.main(args), Error);
      assertMatch(message, line);
      assert(!message.includes("\n"), message);
    }
    const { code, stdout, stderr } = await runTask("docs", "--base", "docs");
    assertEquals([code, stdout, stderr.trim().split("\n").length], [2, "", 1]);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["mine.txt"]);
  }));

Deno.test("the site has the pages that README leads to, with links that lead to pages", () =>
  withFolder(async (folder) => {
    const pages = await stagePages(folder, "/");
    const read = (path: string) => Deno.readTextFile(`${folder}/${path}`);
    for (const path of ["docs/index.md", "docs/reference/cli/sweep.md", "LICENSE"]) {
      assert(pages.includes(path), path);
    }
    assertEquals(new Set(pages).size, pages.length);
    const overview = await read("overview.md"), landing = await read("index.md");
    assertStringIncludes(overview, "](./docs/index.md)");
    assertStringIncludes(overview, "](./LICENSE.md)");
    assertEquals(landing.match(/^ {4}- text: /gm)!.length, 4);
    for (const text of [overview, landing]) {
      assertMatch(text, /<img class="in-dark" alt="[^"]+" src="\.\/docs\/images\/lead_dark\.png">/);
    }
    for (const scheme of ["light", "dark"]) {
      const picture = `docs/images/lead_${scheme}.png`, own = new URL(`../../../${picture}`, import.meta.url);
      assertEquals(await Deno.readFile(`${folder}/${picture}`), await Deno.readFile(own));
    }
    assertStringIncludes(await read("docs/start/install.md"), "](../../SECURITY.md)");
    // A notebook's page has its cells, their output, and pictures with alternative texts.
    const notebook = await read("notebooks/01_quickstart.ipynb.md");
    assertMatch(notebook, /^````ts\nimport /m);
    assertMatch(notebook, /<img class="figure" alt="[^"]{20,}" src="\.\/01_quickstart\.ipynb\.0\.svg">/);
    assertMatch(await read("notebooks/01_quickstart.ipynb.0.svg"), /^<svg /);
    const cards = (await read("notebooks/index.md")).match(/<a class="card"/g)!;
    assertEquals(cards.length, pages.filter((path) => path.endsWith(".ipynb")).length);
  }));

Deno.test("the side bar has the map of the docs, the notebooks, and a page for each command", async () => {
  const [start, notebooks, ...others] = await readSidebar([{ text: "Quickstart", link: "/notebooks/01" }]);
  assertEquals(start!.items[0], { text: "Install", link: "/docs/start/install" });
  assertEquals(notebooks!.items.map(({ text }) => text), ["Gallery", "Quickstart"]);
  const { items } = others.flatMap(({ items }) => items).find(({ text }) => text === "Command line")!;
  for (const name of ["sweep", "compare"]) {
    assertEquals(items!.filter(({ text }) => text === name), [{
      text: name,
      link: `/docs/reference/cli/${name}`,
    }]);
  }
});

/** Paths of a site's pages, those of the API aside. */
function listPages(folder: string, under = ""): string[] {
  return Array.from(Deno.readDirSync(`${folder}/${under}`)).flatMap(({ name, isDirectory }) =>
    isDirectory
      ? name === "api" ? [] : listPages(folder, `${under}${name}/`)
      : name.endsWith(".html")
      ? [`${under}${name}`]
      : []
  );
}

/** Runs in the page: what is cut off or wider than its place, one line each, and links that lead to no heading. */
const INSPECT = `(() => {
  const wide = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.scrollWidth > e.clientWidth + 1)
    .map((e) => selector + " is cut off: " + e.textContent.trim().slice(0, 60));
  const links = [...document.querySelectorAll("a[href^='#']")].map((a) => decodeURIComponent(a.hash.slice(1)));
  return [
    ...wide(".vp-doc pre:not(.diagram)"),
    ...innerWidth > 1000 ? wide(".vp-doc table") : [],
    ...document.documentElement.scrollWidth > innerWidth ? ["the page is wider than the window"] : [],
    ...links.filter((id) => id !== "" && document.getElementById(id) === null).map((id) => "found no heading #" + id),
    ...[...document.images].filter((img) => img.complete && img.naturalWidth === 0).map((img) => "no picture " + img.src),
  ];
})()`;

browserTest(
  "no code block of the built site is cut off, wide and as narrow as a phone, and no page fails",
  () =>
    withFolder(async (folder) => {
      const out = `${folder}/site`;
      assertEquals(await command.main(["--out", out, "--base", "/b/", "--quiet"]), 0);
      await using server = serveSite(out);
      await using browser = await openBrowser();
      const problems: string[] = [], pages = listPages(out);
      assert(pages.length > 50, `${pages.length} pages`);
      for (const width of [1440, 390]) {
        const page = await browser.newPage({ viewport: { width, height: 900 }, reducedMotion: "reduce" });
        let view = "";
        page.on("pageerror", ({ message }) => problems.push(`${view}: ${message}`));
        page.on("console", (said) => said.type() === "error" && problems.push(`${view}: ${said.text()}`));
        for (const path of pages) {
          view = `${path}, ${width} px`;
          await page.goto(`http://127.0.0.1:${server.addr.port}/b/${path}`, { waitUntil: "networkidle" });
          await page.waitForFunction(`document.querySelector("pre.diagram") === null`);
          problems.push(
            ...(await page.evaluate(INSPECT) as string[]).map((problem) => `${view}: ${problem}`),
          );
        }
        await page.close();
      }
      assertEquals(problems, []);
      const symbol = [...Deno.readDirSync(`${out}/api/~`)].find(({ name }) => name.endsWith(".html"))!.name;
      assertStringIncludes(
        await Deno.readTextFile(`${out}/api/~/${symbol}`),
        '<a href="/b/docs/" class="contextLink">',
      );
    }),
  IN_SLOW_TIER,
);
