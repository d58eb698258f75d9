import { readdirSync } from "node:fs";
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { comparedAtRatios, type Comparison } from "../../../lib/sweep/mod.ts";
import { PARTS, shorten } from "./measure.ts";
import {
  collectItems,
  fillTables,
  formatPerplexity,
  listCommands,
  meanInterval,
  PAGES,
  type Part,
  readPart,
  showParts,
  tabulateRatios,
} from "./tables.ts";

Deno.test("the study's parts name methods and ratios that a comparison knows", () => {
  for (const [name, { methods, ratios = "0.5" }] of Object.entries(PARTS)) {
    const asked = comparedAtRatios(methods.split(","), {}, 1, ratios.split(",").map(Number));
    const own = new Set(
      asked.flatMap(({ name, same = [] }) => [name, ...same]).map((name) => name.replace(/ at .*/, "")),
    );
    assert(methods.split(",").every((method) => own.has(method) || /^(random|periodic)/.test(method)), name);
  }
});

Deno.test("the study's pages have the table of every committed result, as its command makes it", async () => {
  const pages = await Promise.all(PAGES.map((page) => Deno.readTextFile(page)));
  const names = readdirSync(new URL("results/", import.meta.url), { recursive: true, encoding: "utf8" });
  const parts = names.filter((name) => name.endsWith(".json")).map((name) =>
    name.replace(/\.json$/, "").replace("/", "_")
  );
  const shown = pages.flatMap(listCommands).flatMap((names) => names.split(" "));
  assertEquals(shown.sort(), parts.sort());
  for (const page of pages) {
    assertEquals(await fillTables(page), page, "run experiments/studies/comparison/tables.ts");
  }
  const text = pages.join("\n");
  for (const part of parts) assertStringIncludes(text, (await readPart(part)).environment.label!);
});

/** A part whose methods have the given losses, and answer two tasks with changes and half intervals, as fractions. */
function part(
  methods: readonly (readonly [name: string, asked: number, nats: number])[],
  changes: { readonly [method: string]: readonly (readonly [change: number, half: number])[] } = {},
): Part {
  const interval = (estimate: number, half: number) => ({
    estimate,
    low: estimate - half,
    high: estimate + half,
  });
  const items = ["acc", "acc_norm"].flatMap((metric, task) =>
    Object.entries(changes).map(([method, own]) => ({
      ...{ method, task: `task${task}`, metric, value: 0.5 },
      against: { dense: { ...interval(...own[task]!), verdict: "worse" } },
    }))
  );
  const texts = methods.map(([method]) => ({
    ...{ method, task: "perplexity", metric: "perplexity" },
    against: {
      random: { verdict: "better" },
      bestOther: { verdict: method.startsWith("paper") ? "worse" : "better" },
    },
  }));
  return {
    methods: methods.map(([name, asked, nats]) => ({
      ...{ name, asked, achievedRatio: name.startsWith("paper") ? asked : 0, missed: false },
      lossIncrease: interval(nats, 0.01),
      retained: { pairs: 0.4, cache: 0.5, projectionFlops: 1, parameters: 1 },
    })),
    results: [...texts, ...items],
  } as unknown as Part;
}

Deno.test("a part of several ratios has a row per method and a column per ratio, the smallest loss increase first", () => {
  const own = part([["paper at 0.2", 0.2, 0.5], ["paper at 0.5", 0.5, 3], ["cur at 0.5", 0.5, 0.1]]);
  assertEquals(tabulateRatios(own).columns.slice(0, 4), ["method", "at 0.2", "at 0.5", "pairs at 0.5"]);
  assertEquals(tabulateRatios(own).rows.map((row) => row.slice(0, 4)), [
    ["cur", "-", "+0.100 [0.090, 0.110] ▲", "40%"],
    ["paper", "+0.500 [0.490, 0.510] ▲†", "+3.000 [2.990, 3.010] ▲†", "40%"],
  ]);
});

Deno.test("the mean change over tasks takes tasks as independent", () => {
  const own = part([["a at 0.5", 0.5, 0], ["b at 0.5", 0.5, 0]], {
    "a at 0.5": [[-0.2, 0.06], [0, 0.08]],
    "b at 0.5": [[0, 0], [0.1, 0]],
  });
  const [best, a] = collectItems(own);
  assertEquals([best!.method, a!.method], ["b at 0.5", "a at 0.5"]);
  assertAlmostEquals(a!.change.estimate, -10);
  assertAlmostEquals(a!.change.high - a!.change.estimate, 5); // 10 points over 2 tasks
});

Deno.test("perplexities that are out of all proportion are shown by their size", () => {
  assertEquals([99.94, 100.4, 158849, 7.114e17].map(formatPerplexity), ["99.9", "100", "158849", "7.1e17"]);
});

Deno.test("parts of one task have a table together: a row a method, as it stands in the part's own table", async () => {
  const own = await showParts(["needle_recall_0.5"]), other = await showParts(["needle_all_0.5"]);
  const together = await showParts(["needle_all_0.5", "needle_recall_0.5"]);
  const cells = (table: string, method: string) =>
    table.split("\n").find((line) => line.startsWith(`| ${method}`))!.split(" | ");
  const [, first, second] = cells(together, "keydiff").map((cell) => cell.replace(/ \|$/, ""));
  const [, accuracy, perplexity] = cells(other, "keydiff at 0.5");
  assertEquals(first, `${accuracy} (${perplexity})`);
  const [, accuracy2, perplexity2] = cells(own, "keydiff");
  assertEquals(second, `${accuracy2} (${perplexity2})`);
  assertStringIncludes(together, "| KV cache | 62% to 63% | 62% |");
});

Deno.test("a part that is kept has no pairs, and six digits", () => {
  const text = shorten({ pairs: [1], intervals: 0.123456789, units: 2044 } as unknown as Comparison);
  assertEquals(text, '{"intervals":0.123457,"units":2044}\n');
});

Deno.test("meanInterval() adds the ways to the ends in squares, and stays in the range of its parts", () => {
  const part = (estimate: number, low: number, high: number) => ({ estimate, low, high });
  assertEquals(meanInterval([part(0.5, 0.25, 0.75)]), part(0.5, 0.25, 0.75));
  const { estimate, low, high } = meanInterval([part(0, -0.3, 0.6), part(1, 0.6, 1.8)]);
  assertAlmostEquals(estimate, 0.5);
  assertAlmostEquals(low, 0.25, 1e-12);
  assertAlmostEquals(high, 1, 1e-12);
  const lost = meanInterval([part(-1, -1, -0.7), part(-1, -1, -0.6)]);
  assertEquals([lost.estimate, lost.low], [-1, -1]);
});
