import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { drawDifferences, intervalOverRandom, readSettings } from "./large.ts";
import { chunkInterval, isBaseline } from "./losses.ts";
import { drawPareto, fillPage, findFront, makeTables, PAGES } from "./paper.ts";

type Method = Parameters<typeof chunkInterval>[1];
const method = (name: string, rows: number, loss: number, sums: readonly number[] = []) =>
  ({
    name,
    loss,
    retained: { cache: rows, attentionFlops: rows },
    lossBlocks: { sums, sizes: sums.map(() => 2) },
  }) as unknown as Method;

Deno.test("the study's pages have the tables that their script makes, and words that these bear out", async () => {
  const tables = await makeTables(), pages = await Promise.all(PAGES.map((page) => Deno.readTextFile(page)));
  for (const page of pages) {
    assertEquals(fillPage(page, tables), page, "run experiments/studies/comparison/paper.ts");
  }
  for (const table of Object.values(tables)) assertStringIncludes(pages.join(""), table.trimEnd());
});

Deno.test("the study says of its methods what the intervals over the random baseline bear out", async () => {
  const against = async (side: "queries" | "keys") =>
    (await readSettings(side)).map((setting) =>
      setting.methods.filter((method) => !isBaseline(method)).map((method) => ({
        name: method.name.replace(/ at .*/, ""),
        ...intervalOverRandom(setting, method),
      }))
    );
  const better = (all: Awaited<ReturnType<typeof against>>[number]) =>
    all.filter(({ high }) => high < 0).map(({ name }) => name).sort();
  const worse = (all: Awaited<ReturnType<typeof against>>[number]) =>
    all.filter(({ low }) => low > 0).map(({ name }) => name).sort();
  const keys = await against("keys");
  assertEquals(keys.map(better), [
    ["key", "keydiff-cache", "variance"],
    ["expected-attention", "h2o", "key", "keydiff", "keydiff-cache", "leave-one-out", "tova", "variance"],
    [
      ...["expected-attention", "h2o", "keydiff-cache", "leave-one-out", "snapkv", "streaming"],
      ...["tova", "variance"],
    ],
  ]);
  assertEquals(keys.map(worse), [["knorm"], ["knorm", "streaming"], ["lagkv"]]);
  const shown = keys.map((setting) => setting.find(({ name }) => name === "variance")!.estimate.toFixed(3));
  assertEquals(shown, ["-0.017", "-0.013", "-0.008"]);
  for (const setting of await against("queries")) assertEquals(better(setting), ["learned", "paper"]);
});

Deno.test("the figure of evictions has a row per method, and in it a bar per setting from end to end of its interval", async () => {
  const settings = await readSettings("keys"), { data, layout } = (await drawDifferences()).toJson();
  const { tickvals, ticktext, range } = layout["yaxis"] as { [name: string]: unknown[] };
  const [bottom, top] = range as [number, number];
  assertEquals([ticktext!.length, tickvals], [12, Array.from({ length: 12 }, (_, i) => i)]);
  const traces = data as unknown as {
    x: number[];
    y: number[];
    error_x: { symmetric: boolean; array: number[]; arrayminus: number[] };
  }[];
  assertEquals(traces.length, settings.length);
  for (const [s, { x, y, error_x: { symmetric, array, arrayminus } }] of traces.entries()) {
    assertEquals(symmetric, false);
    const methods = settings[0]!.methods.filter((method) => !isBaseline(method));
    for (const [i, { name }] of methods.entries()) {
      const own = settings[s]!.methods.find((method) => method.name === name)!;
      const { low, high, estimate } = intervalOverRandom(settings[s]!, own);
      assertEquals(x[i], estimate);
      assertAlmostEquals(x[i]! + array[i]!, high);
      assertAlmostEquals(x[i]! - arrayminus[i]!, low);
      assertAlmostEquals(y[i]!, i + [-0.2, 0, 0.2][s]!);
      assert(y[i]! < bottom && y[i]! > top);
    }
  }
});

Deno.test("chunkInterval() takes a whole chunk as one value: Student's t over chunks", () => {
  // Two chunks of two blocks of two tokens: means over chunks 1 and 3, so 2 +- 12.706 standard errors of 1.
  const { estimate, low, high } = chunkInterval(
    2,
    method("a", 1, 2, [1, 3, 5, 7]),
    method("b", 1, 0, [0, 0, 0, 0]),
  );
  assertEquals(estimate, 2);
  assertAlmostEquals(high - estimate, 12.7062, 1e-3);
  assertAlmostEquals(estimate - low, 12.7062, 1e-3);
});

Deno.test("findFront() keeps what no other point equals in loss with as little, in whole percent", () => {
  const points = [["a", 0.501, 3], ["b", 0.504, 1], ["c", 0.7, 1], ["d", 0.6, 2], ["e", 0.9, 0.5]] as const;
  const front = findFront(
    points.map(([name, rows, loss]) => ({ method: method(name, rows, loss), losses: undefined as never })),
    "cache",
  );
  assertEquals(front.map(({ method: { name } }) => name), ["b", "e"]);
});

Deno.test("the study's figure has a line per method in both panels, bands of both seeds, and the fronts", async () => {
  const { data } = (await drawPareto()).toJson();
  const traces = data as unknown as {
    name: string;
    fill?: string;
    xaxis: string;
    x: number[];
    y: number[];
  }[];
  assertEquals(traces.filter(({ name }) => name.startsWith("Pareto")).map(({ xaxis }) => xaxis), ["x", "x2"]);
  const bands = traces.filter(({ fill }) => fill === "toself");
  assert(bands.length >= 6, `${bands.length} bands`);
  assert(bands.every(({ x, y }) => x.length === y.length && x.length === 8 && y.every((nats) => nats > 0)));
});
