import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { intervalOverRandom, readSettings } from "./large.ts";
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
