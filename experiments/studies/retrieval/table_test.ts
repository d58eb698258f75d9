import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { openCpu } from "../../../ffi/mod.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { planLayers } from "../../../lib/filter/mod.ts";
import { resolveOptions } from "../../../lib/methods/mod.ts";
import { findRetrievalLayers, loadModel, type RetrievalLayers } from "../../../lib/model/mod.ts";
import { expandGrids, readGrids } from "../../../lib/sweep/mod.ts";
import { tabulateAblations } from "./ablation.ts";
import { tabulateProbes } from "./probes.ts";
import { readTaskResults, tabulateTasks } from "./tasks.ts";
import { fillPage } from "../comparison/paper.ts";
import {
  compareBy,
  findTrial,
  intervalOf,
  meanOf,
  MEASURES,
  readSweep,
  readText,
  readWikitext,
  type Trial,
} from "./read.ts";
import { makeTables, PAGES, RATIO } from "./table.ts";

const readPage = (path: string) => Deno.readTextFile(new URL(path, import.meta.url));
const LOG = "README.md";

Deno.test("the pages of retrieval layers and Gemma have the tables that their script makes", async () => {
  const pages = await Promise.all(PAGES.map((page) => Deno.readTextFile(page))), tables = await makeTables();
  for (const page of pages) {
    assertEquals(fillPage(page, tables), page, "run experiments/studies/retrieval/table.ts");
  }
  for (const table of Object.values(tables)) assertStringIncludes(pages.join(""), table.trimEnd());
});

Deno.test("a sweep takes the grid of the older results", async () => {
  const grid = JSON.parse(await readPage("grid.json"));
  const settingOf = (rule: string, ...rest: readonly (string | number)[]) => [rule, ...rest].join();
  const asked = expandGrids(readGrids(grid)).map((options) => {
    const { kvFusion, kvRatio, whole, wholeFraction } = resolveOptions(options);
    return settingOf(kvFusion, kvRatio, whole as string, wholeFraction);
  });
  const trials = await readSweep("wikitext2_32768");
  assertEquals(
    asked.sort(),
    trials.map(({ rule, ratio, whole, fraction }) => settingOf(rule, ratio, whole, fraction)).sort(),
  );
});

Deno.test("the page says what the rule adds once heads are whole, by all three metrics", async () => {
  const trials = await readWikitext(), page = (await Deno.readTextFile(PAGES[0]!)).replaceAll(/\s+/g, " ");
  const find = (rule: string, whole: string) => findTrial(trials, { rule, whole, ratio: RATIO })!;
  const random = find("random", "heads"), loss = (trial: Trial) => meanOf("loss", trial)!.toFixed(3);
  assertEquals(random.seeds, 5);
  assertStringIncludes(
    page,
    `Random eviction loses ${loss(find("random", "none"))} where all heads are treated alike, and ${
      loss(random)
    } with seven`,
  );
  const rules = ["key", "leave-one-out"].map((rule) => find(rule, "heads"));
  assertStringIncludes(page, `\`key\` loses ${loss(rules[0]!)} and \`leave-one-out\` ${loss(rules[1]!)}`);
  for (const own of rules) {
    assertEquals(MEASURES.map((measure) => compareBy(measure, own, random)), ["better", "better", "better"]);
  }
});

Deno.test("the trials of measure.ts repeat those of the older sweep to five digits", async () => {
  const own = await readText("controls_wikitext2"), older = await readSweep("wikitext2_32768");
  const both = older.filter((other) => other.rule !== "random" && findTrial(own, other)); // random has more seeds now
  assert(both.length > 1, `${both.length}`);
  for (const other of both) {
    const { loss } = findTrial(own, other)!;
    for (const [chunk, value] of other.loss.entries()) assertAlmostEquals(loss[chunk]!, value, 2e-5);
  }
});

Deno.test("the log of retrieval layers has several needles and other tasks of the committed results", async () => {
  assertStringIncludes(await readPage(LOG), formatMarkdown(tabulateTasks(await readTaskResults())));
});

Deno.test("the log of retrieval layers has the ablations of the committed results", async () => {
  const found = JSON.parse(await readPage("results/ablation.json"));
  assertStringIncludes(await readPage(LOG), formatMarkdown(tabulateAblations(found)));
});

Deno.test("the log of retrieval layers has the table of the committed probes", async () => {
  const found = JSON.parse(await readPage("results/probes.json"));
  assertStringIncludes(await readPage(LOG), formatMarkdown(tabulateProbes(found)));
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

Deno.test("intervalOf() is Student's t over the chunks that both trials have, and none below six", () => {
  const trial = (loss: readonly number[]) => ({ loss }) as unknown as Trial;
  const { estimate, low, high } = intervalOf(
    "loss",
    trial([1, 3, 1, 3, 1, 3, 9]),
    trial([0, 0, 0, 0, 0, 0]),
  )!;
  assertAlmostEquals(estimate, 2);
  assertAlmostEquals(high - estimate, 2.5706 * Math.sqrt(1.2 / 6), 1e-3);
  assertAlmostEquals(estimate - low, high - estimate, 1e-12);
  assertEquals(intervalOf("loss", trial([1, 2, 3, 4, 5])), undefined);
  assertEquals(compareBy("loss", trial([1, 1, 1, 2, 1, 1]), trial([3, 3, 3, 3, 3, 3])), "better");
});
