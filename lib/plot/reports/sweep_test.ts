import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readPlotly } from "../figure/plotly.ts";
import { plotSweep, renderSweepReport } from "./sweep.ts";
import { makeSummary, makeTrial } from "../testing.ts";
import type { SweepSummary } from "../../sweep/trial.ts";

const summary = makeSummary([
  makeTrial({ fusion: "learned", pruneRatio: 0.3 }, 0.3, 50),
  makeTrial({ fusion: "random", pruneRatio: 0.3 }, 0.3, 55),
]);
const BUDGETS_TITLES = [
  "Loss against bytes of keys and values in use at the end of a chunk",
  "Loss against pairs of a query and a key computed",
  "Loss against operations of attention, projections and pairs",
];
const plotly = 'window.Plotly = { react() {} }; var s = "</script><!-- x";';
const html = renderSweepReport(summary, { plotly });

Deno.test("renderSweepReport() holds plotly once, the data, and a row a trial and for dense", () => {
  assertEquals(html.split("window.Plotly = ").length, 2);
  const figures = JSON.parse(html.match(/id="figures">(.*?)<\/script>/s)![1]!);
  assertEquals(figures.length, 7); // three budgets, two metrics, the trials, the importance
  assertEquals(html.match(/<tr[ >]/g)!.length, 2 + summary.trials.length);
  for (let i = 0; i < 7; i++) assertStringIncludes(html, `id="figure${i}"`);
  assertStringIncludes(html, "prefers-color-scheme: dark");
});

Deno.test("renderSweepReport() begins with the verdict, and holds what it can save", () => {
  const [head] = html.split("<section>");
  assertStringIncludes(
    head!,
    '<p class="verdict">At 30% of queries skipped “learned” is the only online method',
  );
  assertStringIncludes(head!, "Better than the random baseline: learned.");
  const files = JSON.parse(html.match(/id="downloads">(.*?)<\/script>/s)![1]!) as {
    name: string;
    text: string;
  }[];
  assertEquals(files.map(({ name }) => name), ["trials.csv", "summary.json"]);
  const [csv, json] = files.map(({ text }) => text);
  const held = { ...JSON.parse(JSON.stringify(summary)), trials: JSON.parse(json!).trials };
  delete held.dense.lossBlocks;
  assertEquals([csv!.trim().split("\n").length, JSON.parse(json!)], [3, held]);
  // Losses by block grow with the text: the file next to the page has them.
  const trials = summary.trials.map(({ lossBlocks: _, ...trial }) => trial);
  assertEquals(held.trials, trials);
  assertEquals([html, csv!].some((text) => text.includes("lossBlocks")), false);
  assertEquals(html.match(/data-save="\d">/g)!.length, 2);
  assertEquals(html.match(/data-image="(png|svg)"/g)!.length, 14);
  assertStringIncludes(html, 'data-name="perplexity_against_skipped_queries"');
  assertStringIncludes(html, '<input type="search"');
});

Deno.test("plotSweep() draws no panel that says nothing", () => {
  const titles = (trials: Parameters<typeof makeSummary>[0]) =>
    plotSweep(makeSummary(trials)).map(({ title }) => title);
  const grid = (ratios: number[], taus: number[]) =>
    ratios.flatMap((pruneRatio) =>
      taus.map((tau) => makeTrial({ pruneRatio, tau }, pruneRatio, 50 + pruneRatio + tau))
    );
  const surface = (ratios: number[], taus: number[]) =>
    titles(grid(ratios, taus)).includes("Loss over tau and pruneRatio");
  assertEquals([surface([0.1, 0.2, 0.3], [0, 1]), surface([0.1, 0.2], [0, 1, 2])], [false, false]);
  assertEquals(surface([0.1, 0.2, 0.3], [0, 1, 2]), true);
  const gap = grid([0.1, 0.2, 0.3], [0, 1, 2]).slice(1);
  assertEquals(titles(gap).includes("Loss over tau and pruneRatio"), false);
  const skips = (skipRatioPerLayer: (number | null)[]) =>
    titles([{ ...makeTrial({}, 0.5, 50), skipRatioPerLayer }]).includes("Queries skipped per layer");
  assertEquals([skips([0, 0.5, 0.549]), skips([0, 0.5, 0.551])], [false, true]);
  assertEquals(titles([makeTrial({}, 0.5, 50)]), [
    ...BUDGETS_TITLES,
    "Perplexity against skipped queries",
    "Distance from the full model against skipped queries",
  ]);
});

Deno.test("plotSweep() shows how the best of a search fell, as its trials ended, controls left out", () => {
  const at = (second: number, perplexity: number, fusion: "random" | "mean" = "mean") => ({
    ...makeTrial({ fusion, seed: second }, 0.5, perplexity),
    finishedAt: `2026-01-02T03:04:0${second}.000Z`,
  });
  const summary = makeSummary([at(3, 45), at(1, 50), at(2, 55), at(4, 41, "random"), at(5, 44)]);
  const titles = (own: SweepSummary) => plotSweep(own).filter(({ title }) => title.startsWith("Best"));
  assertEquals(titles(summary), []);
  const [figure] = titles({
    ...summary,
    search: { space: [], objectives: ["loss"], importances: {} } as never,
  });
  assertEquals([figure!.data[0]!.x, figure!.data[0]!.y], [[1, 3, 5, 5], [50, 45, 44, 44]]);
});

Deno.test("plotSweep() draws no trial of keys and values alone where queries are skipped", () => {
  const keys = { ...makeTrial({ preset: "keys" }, 0, 41), kvAchievedRatio: 0.5 };
  const titles = (trials: Parameters<typeof makeSummary>[0]) =>
    plotSweep(makeSummary(trials)).map(({ title }) => title);
  assertEquals(titles([keys]), BUDGETS_TITLES);
  const [figure] = plotSweep(makeSummary([keys, makeTrial({ preset: "paper" }, 0.5, 90)])).slice(3);
  const drawn = figure!.data.flatMap(({ name }) => name ?? []);
  assertEquals(drawn, ["paper", "Pareto front", "dense (40.00)"]);
});

Deno.test("renderSweepReport() loads nothing from anywhere", () => {
  assertStringIncludes(html, "default-src 'none'");
  assertEquals(/(src|href)=|url\(|https?:/.test(html), false);
});

Deno.test("renderSweepReport() lets no text end a script or become markup", () => {
  assertEquals(html.match(/<\/script>/g)!.length, 5);
  assertStringIncludes(html, 'var s = "<\\/script><\\!-- x"');
  assertStringIncludes(html, "numbers &lt;1&gt;");
  assert(!html.includes("numbers <1>"));
  assertMatch(html, /^<!DOCTYPE html>/);
});

Deno.test("renderSweepReport() of a default sweep takes less than 2 MB, plotly included", async () => {
  const trials = Array.from(
    { length: 42 },
    (_, seed) => makeTrial({ fusion: "random", seed }, 0.5, 50 + seed),
  );
  const page = renderSweepReport(makeSummary(trials), { plotly: await readPlotly() });
  assert(page.includes("plotly.js (cartesian") && new TextEncoder().encode(page).length < 2e6);
});
