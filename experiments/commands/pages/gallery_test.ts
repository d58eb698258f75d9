/** Every plot of the toolkit on one page, made of small real runs, in a real browser. */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { createPruner, loadModel, readBuiltinText, ReferenceBackend } from "../../../mod.ts";
import * as toolkit from "../../../lib/plot/mod.ts";
import { type LengthRow, measureLengths } from "../../../lib/eval/mod.ts";
import { type HeadReport, ROC_GRID } from "../../../lib/heads/mod.ts";
import {
  type BenchReport,
  collectComparison,
  collectFusionWeights,
  collectHeadMaps,
  collectLearnedWeights,
  collectLengths,
  collectQuality,
  collectRace,
  collectRidgelines,
  collectRoc,
  collectRoofline,
  collectRuleDifferences,
  collectRuleRanks,
  collectRunDifferences,
  collectScoreTimeline,
  collectSimilarityScatter,
  collectSlices,
  collectTokenMap,
  collectTrueRedundancy,
  collectVariancePosition,
  type Figure,
  plotlyScript,
  readPlotly,
  renderHeadsReport,
  splitLayers,
  TokenMap,
} from "../../../lib/plot/mod.ts";
import { type Comparison, diffRuns, type StoppedTrial, type SweepSummary } from "../../../lib/sweep/mod.ts";
import { scriptJson } from "../../../lib/plot/figure/html.ts";
import { renderPage } from "../../../lib/plot/figure/page.ts";
import { progressOf } from "../../../lib/plot/reports/best_so_far.ts";
import { makeEmptyHeadReport, makeSummary } from "../../../lib/plot/testing.ts";
import { runTask, withFolder } from "../testing.ts";
import { checkPage, openBrowser, VIEWS } from "../../../lib/plot/browser/page_testing.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";

/** The results that the plots show. */
interface Results {
  readonly sweep: SweepSummary;
  readonly comparison: Comparison;
  readonly bench: BenchReport;
  readonly lengths: readonly LengthRow[];
  readonly heads: HeadReport;
}

type Plot = Figure | TokenMap;

/** A search by which the trials of a grid might have come. */
const SEARCH = {
  space: [{ name: "fusion", choices: ["variance", "key"] }, { name: "pruneRatio", low: 0, high: 1 }],
  importances: { pruneRatio: 1 },
} as unknown as NonNullable<SweepSummary["search"]>;

/**
 * Every function that draws a plot, called with numbers of results. Those that draw whole reports call these, and those
 * whose `collectX` takes a result as it is are found by themselves: see {@linkcode drawOthers}.
 */
function drawAll({ sweep, comparison, bench, lengths, heads }: Results): { [name: string]: readonly Plot[] } {
  const traces = splitLayers(heads.excerpt.columns), { texts } = heads.excerpt, { warmup } = heads.options;
  const views = heads.views.map(({ keyState, anchor, layers }) => ({
    name: `${keyState}, ${anchor}`,
    layers,
  }));
  const drawn = {
    plotQuality: (["perplexity", "kl"] as const).map((measure) =>
      toolkit.plotQuality(collectQuality(sweep), measure)
    ),
    plotComparison: (["dense", "random"] as const).map((base) =>
      toolkit.plotComparison(collectComparison(comparison, base))
    ),
    plotRunDifferences: [toolkit.plotRunDifferences(collectRunDifferences(compareRuns(sweep)))],
    plotRoofline: [toolkit.plotRoofline(collectRoofline(bench.kernels, bench.peak))],
    plotLengths: (["prefill", "decode", "memory"] as const).map((measure) =>
      toolkit.plotLengths(collectLengths(lengths, measure))
    ),
    plotRuleDifferences: (["auroc", "spearman"] as const).map((measure) =>
      toolkit.plotRuleDifferences(collectRuleDifferences(heads.overall.comparisons, measure))
    ),
    plotRuleRanks: (["auroc", "spearman"] as const).map((measure) =>
      toolkit.plotRuleRanks(collectRuleRanks(heads.layers, measure))
    ),
    plotRoc: [toolkit.plotRoc(collectRoc(heads.layers, ROC_GRID))],
    plotRidgelines: [
      toolkit.plotRidgelines(collectTrueRedundancy(traces, () => 0.5), "true redundancy"),
      toolkit.plotRidgelines(collectRidgelines(traces)),
    ],
    plotSimilarityScatter: [undefined, "min", "product"].map((rule) =>
      toolkit.plotSimilarityScatter(collectSimilarityScatter(traces, { rule }))
    ),
    plotScoreTimeline: [toolkit.plotScoreTimeline(collectScoreTimeline(traces, { texts, warmup }))],
    plotFusionWeights: [toolkit.plotFusionWeights(collectFusionWeights(traces, { texts }))],
    plotVariancePosition: [
      toolkit.plotVariancePosition(collectVariancePosition(heads.views[0]!.layers, heads.bands)),
    ],
    plotHeadMaps: (["mean", "variance"] as const).map((moment) =>
      toolkit.plotHeadMaps(collectHeadMaps(views, moment))
    ),
    plotLearnedWeights: [
      toolkit.plotLearnedWeights(collectLearnedWeights(heads.layers, heads.learnedFeatures)),
    ],
    plotBestSoFar: [toolkit.plotBestSoFar(progressOf(sweep))],
    plotSlices: [toolkit.plotSlices(collectSlices({ ...sweep, search: SEARCH })!)],
    plotRace: [toolkit.plotRace(collectRace(raceRuns(sweep)))],
    plotTokenMap: [toolkit.plotTokenMap(collectTokenMap(traces, texts, { warmup }))],
  };
  return drawn;
}

/** A sweep as if it had been a race, in which every second trial was stopped half way. */
function raceRuns(sweep: SweepSummary): SweepSummary {
  const { chunks } = sweep.dense, order = Array.from({ length: chunks }, (_, i) => i);
  const stopped = sweep.trials.filter((_, i) => i % 2 === 1).map((trial): StoppedTrial => ({
    ...trial,
    stopped: "0.1 behind the best on the same chunks",
    chunkLosses: order.slice(0, Math.ceil(chunks / 2)).map((i) => 4 + i / chunks),
    chunks,
    partialDelta: 0.1,
    stoppedAt: trial.finishedAt,
  }));
  const trials = sweep.trials.filter((_, i) => i % 2 === 0), read = chunks * trials.length;
  const race = { kind: "sequential", seed: 0, order, read, of: chunks * sweep.trials.length } as const;
  return { ...sweep, trials, stopped, race };
}

/** A sweep next to a copy of it whose losses are reversed. */
function compareRuns(sweep: SweepSummary) {
  const blocks = sweep.trials.map(({ lossBlocks }) => lossBlocks).reverse();
  const trials = sweep.trials.map((trial, i) => ({ ...trial, lossBlocks: blocks[i]! }));
  return diffRuns({ kind: "sweep", name: "a", data: sweep }, {
    kind: "sweep",
    name: "b",
    data: { ...sweep, trials },
  });
}

/** Functions that draw the plots of a whole report, each in its own page's test. */
const REPORTS = ["plotSweep", "plotComparisons", "plotBench", "plotHeads", "plotHeadsText"];

/** Names of functions that draw a plot, and that the gallery does not call by name. */
function listOthers(): string[] {
  const source = String(drawAll);
  return Object.keys(toolkit).filter((name) =>
    /^plot[A-Z]/.test(name) && !REPORTS.includes(name) && !new RegExp(`^ *${name}: `, "m").test(source)
  );
}

/** Draws them with `plotX(collectX(result))`, for every result that `collectX` understands. */
function drawOthers(results: Results): Plot[] {
  const functions = toolkit as unknown as Record<string, (argument: unknown) => unknown>;
  return listOthers().flatMap((name) => {
    const collect = functions[name.replace("plot", "collect")]!, plot = functions[name]!;
    const drawn = Object.values(results).flatMap((result) => {
      try {
        const figure = plot(collect(result)) as Plot;
        return figure instanceof TokenMap || figure.data.length > 0 ? [figure] : [];
      } catch (error) {
        if (error instanceof TypeError) return []; // another result
        throw error;
      }
    });
    assert(drawn.length > 0, `${name} draws none of the results: call it in drawAll`);
    return drawn;
  });
}

/** A task with small work: chunks of 64 tokens of the built-in text on the built-in model. */
async function run<T>(task: string, ...args: string[]): Promise<T> {
  const small = task === "bench" ? [] : ["--context", "64", "--warmup", "8"];
  const { code, stdout, stderr } = await runTask(
    task,
    ...small,
    "--threads",
    "1",
    "--quiet",
    "--json",
    ...args,
  );
  assertEquals([code, stderr], [0, ""], task);
  return JSON.parse(stdout);
}

async function measure(): Promise<readonly LengthRow[]> {
  const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
  const ids = Int32Array.from(tokenizer.encode(await readBuiltinText()));
  const pruner = createPruner("token-filtering", config, { warmup: 4 });
  const methods = [{ name: "dense" }, { name: "variance, half skipped", pruner }];
  return measureLengths(model, ids, methods, { lengths: [8, 16, 32], turns: 1, decodes: 1 });
}

async function gather(folder: string): Promise<Results> {
  const sweepArgs = ["--tokens", "128", "--method", "variance,learned,random", "--tau", "0.5,1,4"];
  return {
    sweep: await run(
      "sweep",
      ...sweepArgs,
      "--gamma",
      "0.5,0.9",
      "--prune-ratio",
      "0.2,0.4",
      "--out",
      `${folder}/s`,
    ),
    comparison: await run("compare", "--tokens", "128", "--seeds", "2", "--out", `${folder}/c`),
    bench: await run("bench", "--only", "filter"),
    heads: await run("heads", "--tokens", "256", "--resamples", "50", "--out", `${folder}/h`),
    lengths: await measure(),
  };
}

const sectionOf = (plot: Plot) => plot instanceof TokenMap ? plot.toSection() : plot;

Deno.test("the gallery knows every function that draws a plot", () => {
  const others = listOthers();
  assertEquals(others.filter((name) => !(name.replace("plot", "collect") in toolkit)), []);
  for (const name of ["plotParallel", "plotImportance", "plotContour", "plotLayerSkips"]) {
    assert(others.includes(name));
  }
});

browserTest(
  "every plot of real runs draws without a fault, narrow and wide, light and dark",
  () =>
    withFolder(async (folder) => {
      const results = await gather(folder);
      const plots = [...Object.values(drawAll(results)).flat(), ...drawOthers(results)];
      const figures = plots.filter((plot): plot is Figure => !(plot instanceof TokenMap));
      for (const { title, data } of figures) assertNotEquals(data, [], `"${title}" is empty`);
      const path = `${folder}/gallery.html`;
      const plotly = await readPlotly();
      await Deno.writeTextFile(
        path,
        renderPage({ title: "Gallery", sections: plots.map(sectionOf), plotly }),
      );
      const screenshots = Deno.env.get("TOKENFILTER_SCREENSHOTS");
      await using browser = await openBrowser();
      for (const view of VIEWS) {
        const seen = await checkPage(path, { browser, screenshots, ...view });
        assertEquals([seen.plots, seen.problems, seen.requests], [figures.length, [], []]);
      }

      // As plotly draws them without our script, which VS Code and images show.
      const bare = `${folder}/bare.html`;
      await Deno.writeTextFile(
        bare,
        `<!DOCTYPE html><meta charset="utf-8"><title>Bare</title>${
          figures.map(() => '<div class="plot"></div>').join("")
        }
${plotlyScript(plotly)}<script>const figures = ${scriptJson(figures.map((figure) => figure.toJson()))};
document.querySelectorAll(".plot").forEach((place, i) => Plotly.newPlot(place, figures[i].data, figures[i].layout));
</script>`,
      );
      const alone = await checkPage(bare, { browser, screenshots, widths: [900], schemes: ["light"] });
      assertEquals([alone.plots, alone.problems], [figures.length, []]);

      const report = `${folder}/heads.html`;
      await Deno.writeTextFile(report, renderHeadsReport(results.heads, { plotly }));
      const found = await checkPage(report, { browser, widths: [1280], schemes: ["dark"] });
      assertEquals([found.plots, found.problems, found.requests], [14, [], []]);

      // A slider, then a tap on a narrow page.
      const page = await browser.newPage({ viewport: { width: 360, height: 900 }, bypassCSP: true });
      await page.goto(`file://${report}`);
      await page.waitForSelector("#figure7 .slider-group");
      const layer = () => page.textContent("#figure7 .slider-label >> nth=0");
      const before = await layer();
      await page.locator("#figure7").scrollIntoViewIfNeeded();
      const rail = (await page.locator("#figure7 .slider-rail-touch-rect").boundingBox())!;
      await page.mouse.click(rail.x + 3, rail.y + rail.height / 2);
      await page.waitForFunction(
        `document.querySelector("#figure7 .slider-label").textContent !== ${JSON.stringify(before)}`,
      );
      assertEquals(await layer(), `layer ${results.heads.layers[0]!.layer}`);
      await page.locator("#figure1 .scatterlayer .point >> nth=0").hover({ force: true });
      await page.waitForFunction(`document.getElementById("detail1").textContent.includes("AUROC 0.")`);

      // The text: one layer chosen, one token pointed at.
      await page.selectOption(".tokenfilter-tokens select", "0");
      const struck = await page.locator(".tokenfilter-tokens .text .skip").count();
      const [first] = splitLayers(results.heads.excerpt.columns);
      assertEquals(struck, first!.keep.length - Array.from(first!.keep).filter((k) => k === 1).length);
      assert(struck > 0);
      const scored = Array.from(first!.redundancy).findIndex((score) => score !== null);
      await page.locator(`.tokenfilter-tokens .text span >> nth=${scored}`).hover();
      const detail = await page.textContent(".tokenfilter-tokens .detail");
      const score = Number(first!.redundancy[scored]!.toPrecision(4));
      assertStringIncludes(detail!, ` in layer ${first!.layer}; score ${score}, threshold `);
    }),
);

browserTest("every plot says what is missing where there are no results", () =>
  withFolder(async (folder) => {
    const figures = [
      ...toolkit.plotSweep(makeSummary([])),
      ...toolkit.plotHeads(makeEmptyHeadReport()),
      toolkit.plotRoofline(collectRoofline([], { flopsPerSecond: 1e9, bytesPerSecond: 1e9 })),
      ...(["prefill", "decode", "memory"] as const).map((measure) =>
        toolkit.plotLengths(collectLengths([], measure))
      ),
    ];
    const path = `${folder}/empty.html`;
    await Deno.writeTextFile(
      path,
      renderPage({ title: "Empty", sections: figures, plotly: await readPlotly() }),
    );
    const { plots, problems } = await checkPage(path, {
      ...VIEWS[0],
      screenshots: Deno.env.get("TOKENFILTER_SCREENSHOTS"),
    });
    assertEquals([plots, problems], [figures.length, []]);
  }));
