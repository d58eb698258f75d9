/** Pages of results and studies in which each field, and each name of one, was replaced by an attack. */
import { assert, assertEquals } from "@std/assert";
import {
  readPlotly,
  renderSite,
  renderSweepReport,
  SITE_FILES,
  type SiteEntry,
} from "../../../lib/plot/mod.ts";
import { UsageError } from "../../../lib/errors.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { makeHeadReport, makeSummary, makeTrial } from "../../../lib/plot/testing.ts";
import { RUNS_SLOW } from "../../../lib/testing.ts";
import { finishedTrials, type StudyFacts, StudyStore } from "../../../lib/sweep/mod.ts";
import { summaryOf } from "./open.ts";
import { renderStudy } from "./page.ts";
import { withFolder } from "../testing.ts";
import { BENCH_REPORT } from "../../tools/bench/testing.ts";
import { openBrowser } from "../../../lib/plot/browser/page_testing.ts";

/** Ends an attribute, or begins a tag, if it is not escaped. */
const ATTACK =
  `x" onerror="document.title='taken'"><img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;

type Path = readonly (string | number)[];

/** The path of each field; fields at the same place of a list's items count once. */
function pathsOf(data: object): Path[] {
  const found = new Map<string, Path>();
  (function visit(value: unknown, path: Path) {
    const kind = Array.isArray(value) ? "list" : value === null ? "null" : typeof value;
    const pattern = [...path.map((step) => typeof step === "number" ? "*" : step), kind].join(".");
    if (path.length > 0 && !found.has(pattern)) found.set(pattern, path);
    if (typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      visit(inner, [...path, Array.isArray(value) ? Number(key) : key]);
    }
  })(data, []);
  return [...found.values()];
}

/** A copy in which the attack replaces a field's value or its name. */
function alter<T extends object>(data: T, path: Path, what: "value" | "name"): T {
  const copy = structuredClone(data), last = path.at(-1)!;
  // deno-lint-ignore no-explicit-any -- results of any kind
  const holder = path.slice(0, -1).reduce((at: any, step) => at[step], copy);
  if (what === "value") holder[last] = ATTACK;
  else if (!Array.isArray(holder)) holder[ATTACK] = holder[last];
  return copy;
}

type Alteration = readonly [path: Path, what: "value" | "name"];

/** What to alter in a result: each of its places. */
function* alterations(data: object): Generator<Alteration> {
  for (const path of pathsOf(data)) {
    for (const what of RUNS_SLOW ? ["value", "name"] as const : ["value"] as const) yield [path, what];
  }
}

/** The same result altered in one place, as often as there are places. */
function* altered<T extends object>(data: T): Generator<{ readonly place: string; readonly data: T }> {
  for (const [path, what] of alterations(data)) {
    yield { place: `${what} of ${path.join(".")}`, data: alter(data, path, what) };
  }
}

const trials = [
  makeTrial({ fusion: "learned", tau: 1 }, 0.5, 50),
  makeTrial({ fusion: "learned", tau: 2 }, 0.5, 51),
];
const search = {
  ...{ sampler: "tpe", seed: 0, proposed: 9, repeated: 1, refused: 1, firstRefused: "tau 99" },
  ...{ objectives: ["loss", "pairs"], importances: { tau: 0.5, fusion: 0.5 }, hypervolume: 0.5 },
  ...{ space: [{ name: "tau", low: 0.5, high: 4, log: true }], limits: {} },
};
const comparison = JSON.parse(
  await Deno.readTextFile(
    new URL("../../studies/comparison/results/needle/all_0.5_2048.json", import.meta.url),
  ),
);
const ENTRIES = [
  { kind: "sweep", name: "a", data: { ...makeSummary(trials), search } },
  { kind: "heads", name: "b", data: makeHeadReport() },
  { kind: "compare", name: "c", data: comparison },
  { kind: "bench", name: "d", data: BENCH_REPORT },
] as unknown as readonly SiteEntry[];

/** Sites of a result that is altered in one place, but for those that are refused. */
function* alteredSites(
  entry: SiteEntry,
): Generator<{ readonly place: string; readonly site: ReadonlyMap<string, string> }> {
  for (const { place, data } of altered(entry.data)) {
    try {
      yield { place, site: renderSite([{ ...entry, data } as SiteEntry]) };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
}

/** Whether an attack stands in a page as more than text, or in its figures as a tag, which plotly would read. */
function isTaken(page: string): boolean {
  const figures = page.match(/id="figures">(.*?)<\/script>/s)?.[1] ?? "";
  return page.includes("<img") || page.includes('x" onerror=') || page.includes("<script>doc") ||
    figures.includes("\\u003cimg");
}

for (const entry of ENTRIES) {
  Deno.test(`no field of a result of ${entry.kind}, and no name of one, becomes markup of a page`, () => {
    let drawn = 0, shown = 0;
    for (const { place, site } of alteredSites(entry)) {
      drawn++;
      for (const [file, page] of site) {
        assert(!isTaken(page), `${file}: ${place}`);
        if (page.includes("onerror=")) shown++;
      }
    }
    assert(drawn > 10 && shown > 10, `${drawn} drawn, ${shown} with an attack in it`);
    const named = renderSite([{ ...entry, name: ATTACK } as SiteEntry]);
    for (const page of named.values()) assert(!isTaken(page) && page.includes("onerror="));
  });
}

const facts = {
  name: "mine",
  conditions: { version: "0", model: "tiny", text: "prose", context: 64 },
  runDigest: "d",
  flags: { a: "b" },
} as unknown as StudyFacts;

Deno.test("no field of a study becomes markup of its pages", () =>
  withFolder(async (folder) => {
    let count = 0, drawn = 0;
    const open = (own: StudyFacts): StudyStore | undefined => {
      try {
        return StudyStore.create(`${folder}/${count++}.db`, own);
      } catch (error) {
        if (error instanceof UsageError) return undefined; // refused
        throw error;
      }
    };
    const show = (place: string, own: StudyFacts, record: object) => {
      using store = open(own);
      if (store === undefined) return;
      store.take(finishedTrials([record as typeof trials[number], trials[1]!]));
      store.set("dense", makeSummary([]).dense);
      store.claim(ATTACK, 60_000);
      for (
        const draw of [
          () => renderStudy(store, { src: "p.js" }),
          () => renderSweepReport(summaryOf(store), { plotly: { src: "p.js" } }),
        ]
      ) {
        let page: string;
        try {
          page = draw();
        } catch {
          continue; // refused
        }
        drawn++;
        assert(!isTaken(page), place);
      }
    };
    for (const { place, data } of altered(trials[0]!)) show(`trial, ${place}`, facts, data);
    for (const { place, data } of altered(facts)) show(`study, ${place}`, data, trials[0]!);
    assert(drawn > 50, `${drawn} drawn`);
    await Promise.resolve();
  }));

/** The texts before the attacks in a page, without the page's files for download. */
function placesOf(page: string): string[] {
  const shown = page.replace(/<script type="application\/json" id="downloads">.*?<\/script>/s, "");
  const found = shown.matchAll(/.{0,32}(?=x(&quot;|\\?") onerror=)/gs);
  return Array.from(found, ([around]) => around.replaceAll(/\d+/g, "0"));
}

/** A site of a result that is altered in as many places at once as are accepted together. */
function alterAll(entry: SiteEntry): ReadonlyMap<string, string> {
  let data: object = entry.data, site = renderSite([entry]);
  for (const alteration of alterations(entry.data)) {
    try {
      const more = alter(data, ...alteration);
      site = renderSite([{ ...entry, data: more } as SiteEntry]);
      data = more;
    } catch { // refused, or an earlier alteration has replaced the field
    }
  }
  return site;
}

browserTest(
  "no altered result runs a program in a browser",
  () =>
    withFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/${SITE_FILES.plotly}`, await readPlotly());
      await using browser = await openBrowser();
      const page = await browser.newPage({ viewport: { width: 400, height: 800 } }), problems: string[] = [];
      // Strange numbers make plotly complain; only violations of the policy count.
      page.on("console", (message) => {
        if (message.text().includes("Content Security Policy")) problems.push(message.text());
      });
      let opened = 0;
      for (const entry of RUNS_SLOW ? ENTRIES : ENTRIES.slice(0, 1)) {
        for (const [file, html] of alterAll(entry)) {
          const places = placesOf(html);
          if (places.length === 0) continue;
          opened++;
          await Deno.writeTextFile(`${folder}/${file}`, html);
          await page.goto(`file://${folder}/${file}`);
          await page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))");
          assertEquals(
            [await page.title() === "taken", problems],
            [false, []],
            `${file}: ${places.join("; ")}`,
          );
        }
      }
      assert(opened > 0);
      // The same page with injected markup: only the page's policy keeps that from running.
      const [, html] = [...renderSite([ENTRIES[0]!])][1]!;
      await Deno.writeTextFile(
        `${folder}/spoiled.html`,
        html.replace("</h1>", `</h1>${ATTACK.slice(ATTACK.indexOf("<"))}`),
      );
      await page.goto(`file://${folder}/spoiled.html`);
      await page.locator(".main-svg").first().waitFor();
      assertEquals([await page.title() === "taken", problems.length > 1], [false, true]);
    }),
);
