/** `deno task docs`, without VitePress: the files that it reads, its refusals, and the broken links that it finds. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { runTask, withFolder } from "../commands/testing.ts";
import { browserTest } from "../../lib/plot/figure/testing.ts";
import { main } from "./docs.ts";
import { checkLinks } from "./docs/links.ts";
import { lookAtPages, PAGES } from "./docs/look.ts";
import { readSidebar, stagePages } from "./docs/stage.ts";

Deno.test("docs refuses what it cannot use in one line, writes nothing, and leaves with exit code 2", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/mine.txt`, "kept");
    for (
      const [args, line] of [
        [["--port", "80"], /^Cannot use "--port": there is no such flag/],
        [["--out"], /^Cannot use --out: found no value/],
        [["page.md"], /^Cannot use "page.md": expected only flags/],
        [["--base", "docs"], /^Cannot use --base "docs": expected a path from slash to slash/],
        [["--out", folder], /^Cannot write to ".*": found files that are no earlier site/],
        [["--out", `${folder}/mine.txt`], /^Cannot write to ".*": found files that are no earlier site/],
        [["--out", `${folder}/mine.txt/site`], /^Cannot write to ".*": a part of the path is a file/],
      ] as const
    ) {
      const { message } = await assertRejects(() => main(args), Error);
      assertMatch(message, line);
      assert(!message.includes("\n"), message);
    }
    const { code, stdout, stderr } = await runTask("docs", "--base", "docs");
    assertEquals([code, stdout, stderr.trim().split("\n").length], [2, "", 1]);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["mine.txt"]);
  }));

Deno.test("the site has the pages that README leads to, with links that lead to pages", () =>
  withFolder(async (folder) => {
    const pages = await stagePages(folder, "/"),
      read = (path: string) => Deno.readTextFile(`${folder}/${path}`);
    for (
      const path of ["docs/index.md", "docs/reference/cli.md", "LICENSE", "notebooks/01_quickstart.ipynb"]
    ) {
      assert(pages.includes(path), path);
    }
    assertEquals(new Set(pages).size, pages.length);
    const home = await read("index.md");
    assertStringIncludes(home, "](./docs/index.md)");
    assertStringIncludes(home, "](./LICENSE.md)");
    assertMatch(home, /<img class="in-dark" alt="[^"]+" src="\.\/docs\/images\/lead_dark\.png">/);
    for (const scheme of ["light", "dark"]) {
      const picture = `docs/images/lead_${scheme}.png`, own = new URL(`../../${picture}`, import.meta.url);
      assertEquals(await Deno.readFile(`${folder}/${picture}`), await Deno.readFile(own));
    }
    assertStringIncludes(await read("docs/start/install.md"), "](../../");
    // A notebook's page has its cells, their output, and pictures with alternative texts.
    const notebook = await read("notebooks/01_quickstart.ipynb.md");
    assertMatch(notebook, /^````ts\nimport /m);
    assertMatch(
      notebook,
      /<img alt="[^"]{20,}" style="background: #ffffff" src="\.\/01_quickstart\.ipynb\.\d+\.svg">/,
    );
    for (const path of PAGES) await read(path.replace(/html$/, "md"));
    const [start] = readSidebar(await Deno.readTextFile(new URL("../../docs/index.md", import.meta.url)));
    assertEquals(start, {
      text: "Start",
      collapsed: false,
      items: ["Install", "Quickstart", "Concepts"].map((text) => ({
        text,
        link: `/docs/start/${text.toLowerCase()}`,
      })),
    });
  }));

browserTest(
  "pages of the site are looked at: what they ask for, their width, axe's findings, and pictures",
  () =>
    withFolder(async (folder) => {
      await Deno.writeTextFile(
        `${folder}/a.html`,
        `<body style="width: 500px"><img src="http://other.invalid/x.png"><script>throw new Error("broken")</script>`,
      );
      // A stand-in for axe-core: one violation.
      const axe = `globalThis.axe = { run: () => Promise.resolve({ violations: [
      { id: "image-alt", nodes: [{ target: ["img"], failureSummary: "no\\n text" }] }] }) };`;
      const problems = await lookAtPages(folder, "/b/", axe, `${folder}/pictures`, ["a.html"]);
      const of = (view: string) => problems.filter((line) => line.startsWith(`a.html, ${view}: `));
      for (const view of ["390 px, light", "390 px, dark", "1280 px, light", "1280 px, dark"]) {
        const own = of(view).map((line) => line.slice(`a.html, ${view}: `.length));
        for (const problem of ["broken", "asks other.invalid", "image-alt: img: no text"]) {
          assert(own.includes(problem), `${view}: ${own.join("; ")}`);
        }
        assertEquals(own.some((line) => /^the page is \d+ px wide$/.test(line)), view.startsWith("390"));
      }
      const pictures = ["390_dark", "390_light", "1280_dark", "1280_light"].map((view) => `a_${view}.png`);
      assertEquals(
        new Set([...Deno.readDirSync(`${folder}/pictures`)].map(({ name }) => name)),
        new Set(pictures),
      );
    }),
);

Deno.test("a built site's links lead to files and headings; what does not is named with its page", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/sub`);
    await Deno.writeTextFile(
      `${folder}/index.html`,
      `<a href="sub/page.html#there">a</a><a href="/b/sub/page">b</a><a href="https://example.com/x">c</a>
<a href="sub/page.html#gone">d</a><img src="lost.png"><a href="/outside.html">e</a><h2 id="top">t</h2><a class="x" href="#top">f</a>`,
    );
    await Deno.writeTextFile(`${folder}/sub/page.html`, `<h2 id="there">x</h2><a href="../">up</a>`);
    assertEquals(checkLinks(folder, "/b/"), [
      "index.html: sub/page.html#gone: found no such heading",
      "index.html: lost.png: found no such file",
      "index.html: /outside.html: found no such file",
    ]);
  }));
