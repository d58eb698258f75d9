import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openCpu } from "../../../ffi/mod.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { planLayers } from "../../../lib/filter/mod.ts";
import { resolveOptions } from "../../../lib/methods/mod.ts";
import { findRetrievalLayers, loadModel, type RetrievalLayers } from "../../../lib/model/mod.ts";
import { expandGrids, readGrids } from "../../../lib/sweep/mod.ts";
import { tabulateAblations } from "./ablation.ts";
import { judge, readNeedles, tabulateNeedles } from "./needles.ts";
import { tabulateProbes } from "./probes.ts";
import { tabulateHighRatio, tabulatePowers, tabulateQueries } from "./settings.ts";
import { readTaskResults, tabulateTasks } from "./tasks.ts";
import { chunkInterval, LOSS_TABLES, readResults, tabulateRules } from "./table.ts";

Deno.test("the page of retrieval layers has the table of the committed results, whose grid a sweep takes", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const results = await readResults();
  for (const tabulate of LOSS_TABLES) assertStringIncludes(page, formatMarkdown(tabulate(results)));
  for (const name of ["book_8192", "wikitext2_512_8192", "wikitext2_8192_16384"]) {
    const others = await readResults(name);
    for (const tabulate of LOSS_TABLES.slice(1)) assertStringIncludes(page, formatMarkdown(tabulate(others)));
  }
  const grid = JSON.parse(await Deno.readTextFile(new URL("grid.json", import.meta.url)));
  type Setting = "kvFusion" | "kvRatio" | "whole" | "wholeFraction";
  const settingOf = ({ kvFusion, kvRatio, whole, wholeFraction }: { readonly [Name in Setting]: unknown }) =>
    [kvFusion, kvRatio, whole, wholeFraction].join();
  const asked = expandGrids(readGrids(grid)).map((options) => settingOf(resolveOptions(options)));
  assertEquals(asked.sort(), results.trials.map(settingOf).sort());
});

Deno.test("the page of retrieval layers has a ratio of 0.9 and skipped queries of the committed results", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const [high, queries] = await Promise.all([readResults("book_8192_0.9"), readResults("book_2048_queries")]);
  assertStringIncludes(page, formatMarkdown(tabulateHighRatio(high)));
  assertStringIncludes(page, formatMarkdown(tabulateQueries(queries)));
  assertStringIncludes(page, formatMarkdown(tabulatePowers(await readResults("book_8192_powers"))));
});

Deno.test("the page of retrieval layers has the needles of the committed results", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  assertStringIncludes(page, formatMarkdown(tabulateNeedles(await readNeedles())));
});

Deno.test("the page of retrieval layers has several needles and other tasks of the committed results", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  assertStringIncludes(page, formatMarkdown(tabulateTasks(await readTaskResults())));
});

Deno.test("the page of retrieval layers has the ablations of the committed results", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const found = JSON.parse(await Deno.readTextFile(new URL("results/ablation.json", import.meta.url)));
  assertStringIncludes(page, formatMarkdown(tabulateAblations(found)));
});

Deno.test("the page of retrieval layers has the table of the committed probes", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const found = JSON.parse(await Deno.readTextFile(new URL("results/probes.json", import.meta.url)));
  assertStringIncludes(page, formatMarkdown(tabulateProbes(found)));
});

/** `PyramidKVPress(compression_ratio, window_size=8).get_layer_budget` of kvpress 0.5.5 for 30 layers and 2,048 tokens. */
const PYRAMID = {
  0.526: [
    ...[
      1893,
      1829,
      1766,
      1702,
      1639,
      1575,
      1511,
      1448,
      1384,
      1321,
      1257,
      1193,
      1130,
      1066,
      1003,
      939,
      875,
      812,
    ],
    ...[748, 685, 621, 557, 494, 430, 367, 303, 239, 176, 112, 49],
  ],
  0.789: [
    ...[
      843,
      814,
      786,
      758,
      729,
      701,
      673,
      644,
      616,
      588,
      560,
      531,
      503,
      475,
      446,
      418,
      390,
      361,
      333,
      305,
      276,
      248,
    ],
    ...[220, 191, 163, 135, 107, 78, 50, 22],
  ],
};

Deno.test("the schedule ramp has the budgets of PyramidKV", () => {
  for (const [ratio, budgets] of Object.entries(PYRAMID)) {
    const kvRatio = Number(ratio), slope = (1 - (1 - kvRatio) / 20) / kvRatio - 1;
    const options = resolveOptions({ preset: "retrieval", whole: "none", schedule: "ramp", slope, kvRatio });
    const plan = planLayers(30, options, "keys");
    assertEquals(plan.map(({ skipRatio }) => Math.round(2048 * (1 - skipRatio))), budgets);
  }
});

Deno.test("the page of Gemma has the scores of the committed probe, and its words are what these say", async () => {
  const page = await Deno.readTextFile(new URL("../../../docs/results/gemma.md", import.meta.url));
  const path = new URL("results/gemma3-270m_probe.json", import.meta.url);
  const { probes, windows }: { probes: RetrievalLayers[]; windows: (number | null)[] } = JSON.parse(
    await Deno.readTextFile(path),
  );
  assertEquals(windows.flatMap((window, layer) => window === null ? [layer] : []), [5, 11, 17]);
  for (const { scores, losses, probe } of probes) {
    const sum = scores.reduce((total, score) => total + score, 0);
    const order = scores.map((_, layer) => layer).sort((a, b) => scores[b]! - scores[a]!);
    assertEquals([order.slice(0, 2), order.indexOf(17)], [[11, 5], 7]);
    const cells = [11, 5, 0, 1, 17].map((layer) => `${(100 * scores[layer]! / sum).toFixed(1)}%`);
    const [first, again] = losses.map((loss) => loss.toFixed(1));
    assertStringIncludes(page, `| ${probe.seed} | ${first} and ${again} | ${cells.join(" | ")} |`);
    assertEquals(((scores[5]! + scores[11]!) / sum).toFixed(1), "0.9");
  }
});

Deno.test("the page of retrieval layers has the layers and losses that the probe finds on tiny", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const { scores, losses } = findRetrievalLayers(await loadModel("tiny", await openCpu({ build: true })));
  const order = scores.map((_, layer) => layer).sort((a, b) => scores[b]! - scores[a]!);
  const sum = (layers: readonly number[]) => layers.reduce((total, layer) => total + scores[layer]!, 0);
  const count = order.findIndex((_, i) => sum(order.slice(0, i + 1)) >= 0.75 * sum(order)) + 1;
  const layers = order.slice(0, count).sort((a, b) => a - b).join(", ");
  const [first, again] = losses.map((loss) => loss.toFixed(1));
  const row = page.split("\n").find((line) => line.startsWith("| `tiny` |"))!;
  assertStringIncludes(row, ` s | ${layers} | ${first} and ${again}: it does not copy`);
});

Deno.test("the page of Gemma has the losses with whole layers of the committed results", async () => {
  const page = await Deno.readTextFile(new URL("../../../docs/results/gemma.md", import.meta.url));
  assertStringIncludes(page, formatMarkdown(tabulateRules(await readResults("gemma3-270m_2048_8192"))));
});

Deno.test("chunkInterval() takes whole chunks as the unit", async () => {
  const results = await readResults(), { dense, trials } = results;
  const { estimate, low, high } = chunkInterval(results, trials[0]!.lossBlocks, dense.lossBlocks);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const mean = (sum(trials[0]!.lossBlocks.sums) - sum(dense.lossBlocks.sums)) / sum(dense.lossBlocks.sizes);
  assert(Math.abs(estimate - mean) < 1e-9 && low < estimate && estimate < high);
  const none = chunkInterval(results, dense.lossBlocks, dense.lossBlocks);
  assertEquals([none.estimate, none.low, none.high], [0, 0, 0]);
});

Deno.test("a target is met up to its limit, and says where the interval includes it", () => {
  const judged = (estimate: number) => judge({ estimate, low: estimate - 1, high: estimate + 1 }, 5);
  assertEquals([3, 4, 5].map(judged), ["met", "met", "met, limit in the interval"]);
  assertEquals([6, 7].map(judged), ["missed, limit in the interval", "missed"]);
});
