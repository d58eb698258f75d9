import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readPlotly, renderSweepReport } from "../../../lib/plot/mod.ts";
import { makeSummary, makeTrial } from "../../../lib/plot/testing.ts";
import { openBrowser } from "../../../lib/plot/browser/page_testing.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import type { StudyStore } from "../../../lib/sweep/mod.ts";
import { followStudy } from "./follow.ts";
import { type PageNews, PageServer, PLOTLY } from "./server.ts";
import { exists } from "../cli/files.ts";
import { runTask, spawnTask, withFolder } from "../testing.ts";

const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];

const rules = ["variance", "learned", "key", "random", "oracle"] as const;
const reportOf = (count: number) => () =>
  renderSweepReport(
    makeSummary(rules.slice(0, count).map((fusion, i) => makeTrial({ fusion }, 0.5, 50 + 3 * i))),
    { plotly: PLOTLY },
  );
/** Trials in a report's table. */
const countRows = (report: string) => report.match(/<tr[ >]/g)!.length - 2;

/** All news of a page, as they come. */
async function* listen(url: string): AsyncGenerator<PageNews> {
  const { body, headers } = await fetch(`${url}events`);
  assertEquals(headers.get("content-type"), "text/event-stream; charset=utf-8");
  let text = "";
  for await (const piece of body!.pipeThrough(new TextDecoderStream())) {
    text += piece;
    const events = text.split("\n\n");
    text = events.pop()!;
    for (const event of events) yield JSON.parse(event.replace(/^data: /, ""));
  }
}

Deno.test("PageServer tells each page what is new, a report once, and ends with the last word", async () => {
  const server = await PageServer.open({ port: 0 }), { url } = server;
  assertMatch(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
  const early = listen(url), next = async () => (await early.next()).value!;
  assertEquals(await next(), { fraction: 0, text: "begins", ended: false });
  server.tell({ fraction: 0.5, text: "1 of 2 trials" });
  assertEquals(await next(), { fraction: 0.5, text: "1 of 2 trials", ended: false });
  server.show(reportOf(1));
  const { report } = await next();
  assertEquals(countRows(report!), 1);
  server.tell({ fraction: 0.75, text: "1 of 2 trials" });
  assertEquals(await next(), { fraction: 0.75, text: "1 of 2 trials", ended: false });
  let drawn = 0;
  server.show(() => (drawn++, reportOf(2)()));
  const late = listen(url);
  assertEquals(countRows((await late.next()).value!.report!), 2);
  assertEquals(countRows(await (await fetch(`${url}report.html`)).text()), 2);
  assertEquals(drawn, 1);
  const ends = server.end("Finished.");
  for (const page of [early, late]) {
    let last: PageNews | undefined;
    for await (const news of page) last = news;
    assertEquals([last!.text, last!.ended], ["Finished.", true]);
  }
  await ends;
});

Deno.test("PageServer shows its pages to this machine alone, and closes though a page does not read", async () => {
  const server = await PageServer.open({ port: 0 }), { url } = server, { port } = new URL(url);
  const page = await fetch(url), policy = page.headers.get("content-security-policy")!;
  assertStringIncludes(await page.text(), '<script src="page.js"></script>');
  assertMatch(policy, /script-src 'sha256-[\w+/]{43}=' 'self'; /);
  assertEquals(policy.match(/script-src [^;]*'unsafe/), null);
  assertStringIncludes(await (await fetch(`${url}page.js`)).text(), 'new EventSource("events")');
  assertEquals(await (await fetch(`${url}plotly.min.js`)).text(), await readPlotly());
  for (const [path, status] of [["report.html", 404], ["secret", 404]] as const) {
    const response = await fetch(url + path);
    await response.body!.cancel();
    assertEquals(response.status, status);
  }
  const ask = async (host: string) => {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
    await connection.write(
      new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
    );
    return (await new Response(connection.readable).text()).split("\r\n")[0];
  };
  assertEquals(await ask(`localhost:${port}`), "HTTP/1.1 200 OK");
  assertEquals(await ask(`rebound.example:${port}`), "HTTP/1.1 403 Forbidden");
  const silent = await fetch(`${url}events`);
  await server.end("Finished."); // though a page does not read
  await silent.body!.cancel();
});

/** Starts a sweep with a live page, and finds where that is. */
async function startLive(...args: string[]): Promise<{ child: Deno.ChildProcess; url: string }> {
  const child = await spawnTask("sweep", [...SMALL, "--live", ...args]);
  const reader = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let said = "", url: string | undefined;
  while (url === undefined) {
    const { value, done } = await reader.read();
    assertEquals(done, false, said);
    said += value;
    url = said.match(/Live report: (http:\S+\/)\n/)?.[1];
  }
  // The rest is read to its end, so that the pipe does not fill.
  void (async () => {
    while (!(await reader.read()).done);
  })();
  return { child, url };
}

Deno.test("followStudy() counts trials that failed or stopped among those that ended", async () => {
  const counts = { waiting: 4, running: 1, complete: 2, failed: 2, stopped: 1 };
  const store = { count: () => counts, workers: () => [], get: () => undefined } as unknown as StudyStore;
  const told: { fraction: number; text: string }[] = [];
  const server = {
    tell: (news: { fraction: number; text: string }) => void told.push(news),
    show: () => {},
  } as unknown as PageServer;
  await followStudy(store, server, () => "", AbortSignal.abort());
  assertEquals(told.map(({ fraction }) => fraction), [0.5]);
});

Deno.test("sweep --live shows the report while it grows, and leaves the same results", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`;
    const { child, url } = await startLive("--method", "key,mean,value", "--quiet", "--out", out);
    const reports: number[] = [];
    let last: PageNews | undefined;
    for await (const news of listen(url)) {
      if (news.report) reports.push(countRows(news.report));
      assert(news.fraction >= (last?.fraction ?? 0), news.text);
      last = news;
    }
    const stdout = await new Response(child.stdout).text();
    assertEquals((await child.status).code, 0);
    assertEquals(reports.at(-1), 3);
    assertEquals(reports, reports.toSorted((a, b) => a - b));
    assertEquals([last!.text, last!.ended, last!.fraction], [
      `Finished. Report: ${out}/report.html`,
      true,
      1,
    ]);
    assertStringIncludes(stdout, `Report: ${out}/report.html`);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/summary.json`)).trials.length, 3);
  }));

Deno.test("sweep --live refuses what is no port, and one that is taken, before it writes", () =>
  withFolder(async (folder) => {
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = taken.addr as Deno.NetAddr, out = `${folder}/out`;
    const cases: [string, string][] = [
      ["70000", "Cannot use --live 70000: expected an integer from 0 to 65535\n"],
      ["x", "Cannot use --live x: expected an integer from 0 to 65535\n"],
      [
        String(port),
        `Cannot use --live ${port}: Address already in use (take another port, or none for one that is free)\n`,
      ],
    ];
    for (const [given, expected] of cases) {
      const args = [...SMALL, "--method", "key", "--quiet", "--out", out, "--live", given];
      const { code, stdout, stderr } = await runTask("sweep", ...args);
      assertEquals([code, stdout, stderr, exists(out)], [2, "", expected, false]);
    }
  }));

Deno.test("sweep --live says that it has stopped where it is interrupted", () =>
  withFolder(async (folder) => {
    const seeds = Array.from({ length: 200 }, (_, seed) => seed).join(",");
    const { child, url } = await startLive("--method", "random", "--seed", seeds, "--out", folder);
    let last: PageNews | undefined, stopped = false;
    for await (const news of listen(url)) {
      if (news.report !== undefined && !stopped) child.kill("SIGINT");
      stopped ||= news.report !== undefined;
      last = news;
    }
    assertEquals([last!.text, last!.ended], ["The run has stopped: this is what it had finished.", true]);
    assertEquals((await child.status).code, 130);
    await child.stdout.cancel();
  }));

browserTest(
  "the live page renews the report, keeps what its reader has done, and outlives the run",
  async () => {
    const server = await PageServer.open({ port: 0 });
    await using browser = await openBrowser();
    const problems: string[] = [];
    for (const [width, colorScheme] of [[390, "light"], [1280, "dark"]] as const) {
      const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      page.on("pageerror", (error) => problems.push(error.message));
      server.tell({ fraction: 0.3, text: "3 of 10 trials, 8 s left" });
      server.show(reportOf(3));
      await page.goto(server.url);
      const front = page.frameLocator("iframe.front");
      await front.locator("#figure0 .main-svg").first().waitFor();
      assertEquals(await page.locator("#text").textContent(), "3 of 10 trials, 8 s left");
      await front.locator("input[type=search]").fill("key");
      await front.getByRole("button", { name: "KL" }).click();
      await front.getByRole("button", { name: "KL" }).click();
      server.show(reportOf(5));
      await front.locator("tbody tr").nth(5).waitFor({ state: "attached" });
      assertEquals(await front.locator("tbody tr:visible td:nth-child(2)").allTextContents(), ["key"]);
      assertEquals(await front.locator("th[aria-sort=descending]").textContent(), "KL");
      assertEquals(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
      const folder = Deno.env.get("TOKENFILTER_SCREENSHOTS");
      if (folder !== undefined) await page.screenshot({ path: `${folder}/live_${width}_${colorScheme}.png` });
      if (width < 1280) await page.close();
      else {
        await server.end("Finished. Report: out/report.html");
        await page.locator("#text", { hasText: /^Finished/ }).waitFor();
        assertEquals(await front.locator("tbody tr").count(), 6);
      }
    }
    assertEquals(problems, []);
  },
);
