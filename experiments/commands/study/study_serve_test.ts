import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { makeSummary, makeTrial } from "../../../lib/plot/testing.ts";
import { finishedTrials, type StudyFacts, StudyStore, type Trial } from "../../../lib/sweep/mod.ts";
import { openBrowser } from "../../../lib/plot/browser/page_testing.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { readToken } from "../cli/flags/token.ts";
import { PageServer } from "../pages/server.ts";
import { collectBestSoFar } from "../../../lib/plot/mod.ts";
import { finish, spawnTask, withFolder } from "../testing.ts";

const conditions = { version: "0", model: "tiny", text: "prose", context: 64 };
const facts = { name: "mine", conditions, runDigest: "d", flags: {} } as unknown as StudyFacts;
const trial = (seed: number) =>
  ({
    ...makeTrial({ fusion: "learned", seed }, 0.5, 50 - seed),
    trial: `t${seed}`,
    attentionFlopsAvoided: 10 * seed,
  }) as Trial;

function makeStudy(path: string): StudyStore {
  const store = StudyStore.create(path, facts),
    [, ...open] = finishedTrials([trial(0), trial(1), trial(2), trial(3)]);
  store.take(finishedTrials([trial(0)]));
  store.add(open);
  store.set("dense", makeSummary([]).dense);
  return store;
}

/** Starts the task, and finds where it serves. */
async function startServe(...args: string[]): Promise<{ child: Deno.ChildProcess; url: string }> {
  const child = await spawnTask("study", ["serve", ...args, "--port", "0"]);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`${said} ${(await new Response(child.stderr).text())}`);
    said += value;
    const url = said.match(/Serving study mine on (http:\S+\/)/)?.[1];
    if (url === undefined) continue;
    await reader.cancel();
    return { child, url };
  }
}

async function end(child: Deno.ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  await child.stderr.cancel();
  assertEquals((await child.status).code, 0);
}

browserTest(
  "study serve shows progress, workers and best trials, and renews them in a browser",
  () =>
    withFolder(async (folder) => {
      using store = makeStudy(`${folder}/study.db`);
      const { child, url } = await startServe(folder);
      await using browser = await openBrowser();
      const problems: string[] = [];
      const page = await browser.newPage({ viewport: { width: 390, height: 900 } });
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      page.on("pageerror", (error) => problems.push(error.message));
      await page.goto(url);
      const front = page.frameLocator("iframe.front");
      await front.locator("#figure0 .main-svg").first().waitFor();
      assertEquals(await page.locator("#text").textContent(), "1 of 4 trials, 3 waiting");
      assertEquals(await front.locator("table").first().locator("tbody tr").count(), 1);
      const claim = store.claim("123-abc", 60_000)!;
      store.finish(claim, trial(1));
      await front.locator("table").first().locator("tbody tr").nth(1).waitFor({ state: "attached" });
      assertEquals(await front.locator("table").nth(1).locator("tbody td").first().textContent(), "123-abc");
      assertStringIncludes((await page.locator("#text").textContent())!, "2 of 4 trials, 2 waiting");
      assertStringIncludes((await front.locator(".verdict").textContent())!, "best ppl 49.00");
      assertEquals(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
      assertEquals(problems, []);
      await end(child);
      await page.locator("#text", { hasText: /^The page is no longer served/ }).waitFor();
    }),
);

Deno.test("study serve opens to others with a token alone", () =>
  withFolder(async (folder) => {
    makeStudy(`${folder}/study.db`)[Symbol.dispose]();
    const refused = await finish(await spawnTask("study", ["serve", folder, "--host", "0.0.0.0"]));
    assertEquals(refused.code, 2);
    assertMatch(refused.stderr, /^Cannot serve on 0\.0\.0\.0 without a token: [^\n]*\n$/);
    await Deno.writeTextFile(`${folder}/token`, "short");
    await assertRejects(
      () => readToken(`${folder}/token`, "0.0.0.0"),
      UsageError,
      "at least 8 printable characters",
    );
    await Deno.writeTextFile(`${folder}/token`, "a-long-token\n");
    assertEquals(await readToken(`${folder}/token`, "0.0.0.0"), "a-long-token");
  }));

Deno.test("PageServer with a token shows nothing without it, and keeps it out of the address", async () => {
  const server = await PageServer.open({ port: 0, token: "a-long-token" });
  server.show(() => "report of today");
  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(server.url + path, { headers, redirect: "manual" });
    return [
      response.status,
      await response.text(),
      response.headers.get("set-cookie"),
      response.headers.get("location"),
    ];
  };
  for (
    const headers of [{}, { cookie: "token=another" }, { authorization: "Bearer another" }] as Record<
      string,
      string
    >[]
  ) {
    for (const path of ["", "events", "report.html", "plotly.min.js", "?token=another"]) {
      assertEquals((await ask(path, headers))[0], 401, path);
    }
  }
  const [status, , cookie, location] = await ask("?token=a-long-token");
  assertEquals([status, location], [303, "/"]);
  for (const path of ["/evil.example/?token=a-long-token", "\\\\evil.example/?token=a-long-token"]) {
    assertEquals((await ask(path))[3], "/evil.example/", "no address of another host");
  }
  assert(/^token=a-long-token; HttpOnly; SameSite=Strict/.test(cookie as string), cookie as string);
  for (
    const headers of [{ cookie: "other=1; token=a-long-token" }, {
      authorization: "Bearer a-long-token",
    }] as Record<string, string>[]
  ) {
    assertEquals((await ask("report.html", headers)).slice(0, 2), [200, "report of today"]);
  }
  await server.end("Finished.");
});

Deno.test("collectBestSoFar() keeps what is better than all before it", () => {
  const trials = [5, undefined, 6, 4, 4, 3].map((value, i) => ({ number: i + 1, value }));
  assertEquals(collectBestSoFar({ headline: { better: "lower" }, trials } as never), {
    trial: [1, 4, 6],
    best: [5, 4, 3],
  });
  assertEquals(collectBestSoFar({ headline: { better: "higher" }, trials } as never), {
    trial: [1, 3],
    best: [5, 6],
  });
});
