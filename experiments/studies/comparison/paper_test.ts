import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import sources from "../../commands/reproduce/data.json" with { type: "json" };
import {
  curveOverRandom,
  drawEqualCost,
  readCurves,
  readTimes,
  tabulateCosts,
  timedName,
} from "./equal_cost.ts";
import { drawDifferences, intervalOverRandom, readSettings } from "./large.ts";
import { chunkInterval, isBaseline } from "./losses.ts";
import { fillPage, makeTables, PAGES } from "./paper.ts";
import { listTasks, readPart } from "./tables.ts";

type Method = Parameters<typeof chunkInterval>[1];
const method = (sums: readonly number[]) =>
  ({ lossBlocks: { sums, sizes: sums.map(() => 2) } }) as unknown as Method;

Deno.test("the study's pages have the tables that their script makes, and words that these bear out", async () => {
  const tables = await makeTables(), pages = await Promise.all(PAGES.map((page) => Deno.readTextFile(page)));
  for (const page of pages) {
    assertEquals(fillPage(page, tables), page, "run experiments/studies/comparison/paper.ts");
  }
  for (const table of Object.values(tables)) assertStringIncludes(pages.join(""), table.trimEnd());
});

Deno.test("the study says of its methods what the intervals over the random baseline bear out", async () => {
  const against = async (...settings: Parameters<typeof readSettings>) =>
    (await readSettings(...settings)).map((setting) =>
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
    [
      ...["expected-attention", "h2o", "key", "keydiff", "keydiff-cache", "knorm", "leave-one-out"],
      ...["snapkv", "tova", "variance"],
    ],
  ]);
  assertEquals(keys.map(worse), [["knorm"], ["knorm", "streaming"], ["lagkv"], []]);
  const shown = (name: string) =>
    keys.map((setting) => setting.find((method) => method.name === name)!.estimate.toFixed(3));
  assertEquals(shown("variance"), ["-0.017", "-0.013", "-0.008", "-0.005"]);
  assertEquals(shown("keydiff-cache"), ["-0.024", "-0.014", "-0.010", "-0.007"]);
  for (const setting of await against("queries")) assertEquals(better(setting), ["learned", "paper"]);
  const gemma = await against("keys", "gemma_");
  assertEquals(gemma.map(better), [
    ["leave-one-out", "snapkv"],
    ["leave-one-out", "variance"],
    ["leave-one-out", "snapkv", "variance"],
    ["leave-one-out", "snapkv", "variance"],
  ]);
  assertEquals(gemma.map(worse), Array(4).fill(["keydiff-cache"]));
  const skipping = await against("queries", "gemma_");
  assertEquals(
    skipping.map((setting) => [better(setting), worse(setting)]),
    Array(4).fill([["learned"], ["paper"]]),
  );
});

Deno.test("both sides of a setting were compared with the same full model", async () => {
  for (const model of ["", "gemma_"] as const) {
    const [keys, queries] = [await readSettings("keys", model), await readSettings("queries", model)];
    const lossesOf = (settings: typeof keys) => settings.map(({ methods }) => methods[0]!.loss);
    assertEquals(lossesOf(keys), lossesOf(queries));
  }
});

Deno.test("the study says of items which methods are better than random: only on LAMBADA, and `variance` on both sides", async () => {
  const expected = {
    queries: ["variance"],
    keys: ["keydiff-cache", "leave-one-out", "snapkv", "tova", "variance"],
  };
  for (const [side, better] of Object.entries(expected)) {
    const part = await readPart(`items_500_${side}_0.5`), tasks = listTasks(part);
    assertEquals(tasks.map(({ task }) => task), ["arc_easy", "piqa", "lambada_openai", "hellaswag"]);
    for (const { task, metric } of tasks) {
      const rows = part.results!.filter((row) => row.task === task && row.metric === metric);
      const found = rows.filter(({ against: { random } }) =>
        random !== undefined && random.verdict !== "no significant difference"
      );
      assert(found.every(({ against }) => against.random!.verdict === "better"));
      const names = found.map(({ method }) => method.replace(/ at .*/, "")).sort();
      assertEquals(names, task === "lambada_openai" ? better : [], `${side} ${task}`);
      assert(rows.every(({ units }) => units === 500));
    }
  }
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
      assertAlmostEquals(y[i]!, i + [-0.3, -0.1, 0.1, 0.3][s]!);
      assert(y[i]! < bottom && y[i]! > top);
    }
  }
});

Deno.test("methods at equal cost were run at three ratios, and timed with as much of the cache left as in the comparison", async () => {
  const curves = await readCurves(), { environment, rows } = await readTimes();
  assertEquals(curves.map(({ isSkipping }) => isSkipping), [false, false, false, false, false, true, true]);
  const timed = curves.flatMap((curve) => curve.methods.map((method) => timedName(curve, method)));
  assertEquals([rows[0]!.name, rows.slice(1).map(({ name }) => name).sort()], ["dense", timed.sort()]);
  assertEquals([environment.turns >= 3, environment.textSha256], [true, sources.wikitext2.sha256]);
  for (const curve of curves) {
    assertEquals(curve.methods.map(({ asked }) => asked), [0.25, 0.5, 0.75]);
    for (const method of curve.methods) {
      const row = rows.find(({ name }) => name === timedName(curve, method))!;
      assertAlmostEquals(row.kvBytesHeld / row.kvBytesDense, method.retained.cache, 0.01);
    }
  }
});

Deno.test("the study says of methods at equal cost what the intervals and the table bear out", async () => {
  const curves = await readCurves(), { rows } = tabulateCosts(curves, await readTimes());
  assertEquals(rows.length, 21);
  const better = curves.filter(({ isRandom }) => !isRandom).map((curve) => [
    curve.name,
    ...curveOverRandom(curves, curve).flatMap(({ high }, i) => high < 0 ? [curve.methods[i]!.asked] : []),
  ]);
  assertEquals(better, [
    ["eviction: keydiff-cache (adapted)", 0.25, 0.5],
    ["eviction: variance", 0.25, 0.5, 0.75],
    ["eviction: leave-one-out", 0.75],
    ["eviction: snapkv (adapted)", 0.75],
    ["skipping: paper", 0.5, 0.75],
  ]);
  const find = (name: string, ratio: string) => rows.find((row) => row[0] === name && row[1] === ratio)!;
  const evicting = find("eviction: variance", "0.75"), skipping = find("skipping: paper", "0.25");
  for (let i = 2; i < 7; i++) assert(parseFloat(evicting[i]!) < parseFloat(skipping[i]!), `column ${i}`);
  for (const [name, , , , prefill] of rows) {
    assertEquals(parseFloat(prefill!) > 101, /keydiff-cache|snapkv/.test(name!), `${name} ${prefill}`);
  }
});

Deno.test("the figure of equal cost has three panels with a line per method, at the losses of the comparison", async () => {
  const curves = await readCurves(), { data } = (await drawEqualCost(await readTimes())).toJson();
  const traces = data as unknown as { xaxis: string; x: number[]; y: number[] }[];
  assertEquals(traces.map(({ xaxis }) => xaxis), ["x", "x2", "x3"].flatMap((axis) => curves.map(() => axis)));
  for (const [i, { x, y }] of traces.entries()) {
    const { chunks, dense, methods } = curves[i % curves.length]!;
    assertEquals(y, methods.map((method) => chunkInterval(chunks, method, dense).estimate));
    const cost = (["cache", "attentionFlops"] as const)[Math.floor(i / curves.length)];
    if (cost !== undefined) assertEquals(x, methods.map(({ retained }) => 100 * retained[cost]));
  }
});

Deno.test("chunkInterval() takes a whole chunk as one value: Student's t over chunks", () => {
  // Two chunks of two blocks of two tokens: means over chunks 1 and 3, so 2 +- 12.706 standard errors of 1.
  const { estimate, low, high } = chunkInterval(
    2,
    method([1, 3, 5, 7]),
    method([0, 0, 0, 0]),
  );
  assertEquals(estimate, 2);
  assertAlmostEquals(high - estimate, 12.7062, 1e-3);
  assertAlmostEquals(estimate - low, 12.7062, 1e-3);
});
