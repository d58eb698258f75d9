import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import sources from "../../commands/reproduce/data.json" with { type: "json" };
import { drawEqualCost, readCurves, readTimes, tabulateCosts, timedName } from "./equal_cost.ts";
import { drawDifferences, fusionOf, intervalOverRandom, readSettings, standings } from "./large.ts";
import { chunkInterval, isBaseline, readLosses, showStandings, standingOf } from "./losses.ts";
import { fillPage, makeTables, PAGES } from "./paper.ts";
import { listTasks, readPart } from "./tables.ts";

const method = (sums: readonly number[]) => ({ lossBlocks: { sums, sizes: sums.map(() => 2) } });

Deno.test("the study's pages have the tables that their script makes, and words that these bear out", async () => {
  const tables = await makeTables(), pages = await Promise.all(PAGES.map((page) => Deno.readTextFile(page)));
  for (const page of pages) {
    assertEquals(fillPage(page, tables), page, "run experiments/studies/comparison/paper.ts");
  }
  for (const table of Object.values(tables)) assertStringIncludes(pages.join(""), table.trimEnd());
});

Deno.test("the study and Gemma's page say of their methods what all three metrics bear out, or name the metric", async () => {
  const against = async (...settings: Parameters<typeof readSettings>) =>
    (await readSettings(...settings)).map((setting) =>
      Object.fromEntries(
        setting.methods.filter((method) => !isBaseline(method)).map((method) => [
          method.name.replace(/ at .*/, ""),
          showStandings(standings(setting, method)),
        ]),
      )
    );
  const alike = (settings: Awaited<ReturnType<typeof against>>, shown: string) =>
    settings.map((own) => Object.keys(own).filter((name) => own[name] === shown).sort());
  const of = (settings: Awaited<ReturnType<typeof against>>, name: string) =>
    settings.map((own) => own[name]);
  const BETTER = "▲ ▲ ▲", WORSE = "▼ ▼ ▼", keys = await against("keys");
  const [first, ...rest] = alike(keys, BETTER);
  assertEquals(
    first!.filter((name) => rest.every((names) => names.includes(name))),
    ["keydiff-cache", "variance"],
  );
  assertEquals(alike(keys, WORSE), [["knorm"], [], ["lagkv"], []]);
  assertEquals(of(keys, "leave-one-out"), ["= ▲ ▲", BETTER, BETTER, BETTER]);
  const skipping = await against("queries");
  assertEquals(of(skipping, "paper"), ["▲ ▲ ▼", "▲ ▲ ▼", "▲ ▲ =", "▲ ▲ ="]);
  assertEquals(of(skipping, "learned"), Array(4).fill(BETTER));
  const gemma = await against("keys", "gemma_");
  assertEquals(of(gemma, "leave-one-out"), Array(4).fill(BETTER));
  assertEquals(of(gemma, "variance"), ["= ▲ ▲", BETTER, BETTER, BETTER]);
  assertEquals(of(gemma, "snapkv"), [BETTER, "= ▲ ▲", BETTER, BETTER]);
  assertEquals(of(gemma, "keydiff-cache"), Array(4).fill(WORSE));
  const skippingOfGemma = await against("queries", "gemma_");
  assertEquals(of(skippingOfGemma, "paper"), Array(4).fill("▼ ▼ ▲"));
  assertEquals(of(skippingOfGemma, "learned"), Array(4).fill(BETTER));
});

Deno.test("the study says where rules rank by loss, and what the paper's fusion does by each metric", async () => {
  const settings = await readSettings("keys"), all = [...settings, ...await readSettings("keys", "gemma_")];
  const rank = (setting: typeof settings[number], rule: string) => {
    const rules = setting.methods.filter((method) => !isBaseline(method)), own = `${rule} at 0.5`;
    return 1 + rules.filter(({ loss }) => loss < rules.find(({ name }) => name === own)!.loss).length;
  };
  assertEquals(settings.map((setting) => rank(setting, "variance")), [4, 5, 8, 8]);
  assertEquals(all.filter((setting) => rank(setting, "leave-one-out") === 1).length, 5);
  const fusions = settings.map(fusionOf);
  assertEquals(fusions.map(({ loss }) => standingOf(loss)), ["even", "even", "better", "even"]);
  assert(fusions.every((own) => own.KL > 0 && own["top-1"] < 0));
});

Deno.test("differences between two rules in the study's words are those of the committed chunks", async () => {
  const page = (await Deno.readTextFile(PAGES[0]!)).replaceAll(/\s+/g, " ");
  const check = async (part: string, better: string, ratio: number) => {
    const { chunks, methods } = await readLosses(part);
    const find = (name: string) => methods.find((method) => method.name === `${name} at ${ratio}`)!;
    const { estimate, low, high } = chunkInterval(chunks, find("variance"), find(better));
    assertStringIncludes(page, `${estimate.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`, better);
  };
  for (const better of ["streaming", "leave-one-out", "expected-attention"]) {
    await check("messages_keys_2048_0.5", better, 0.5);
  }
  for (const better of ["leave-one-out", "snapkv"]) {
    await check("wikitext2_keys_2048_0.25_0.75", better, 0.75);
  }
});

Deno.test("both sides of a setting were compared with the same full model", async () => {
  for (const model of ["", "gemma_"] as const) {
    const [keys, queries] = [await readSettings("keys", model), await readSettings("queries", model)];
    const lossesOf = (settings: typeof keys) => settings.map(({ methods }) => methods[0]!.loss);
    assertEquals(lossesOf(keys), lossesOf(queries));
  }
});

Deno.test("the study says on which items the accuracy of a method is better than that of random: only LAMBADA", async () => {
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
  const signs = Map.groupBy(rows.filter((row) => row.at(-1) !== "-"), ([name]) => name!);
  assertEquals([...signs].map(([name, own]) => [name, ...own.map((row) => row.at(-1))]), [
    ["eviction: keydiff-cache (adapted)", "▲ ▲ ▲", "▲ ▲ ▲", "= ▲ ▲"],
    ["eviction: variance", "▲ ▲ ▲", "▲ ▲ ▲", "▲ ▲ ▲"],
    ["eviction: leave-one-out", "= = ▲", "= ▲ ▲", "▲ ▲ ▲"],
    ["eviction: snapkv (adapted)", "= = ▲", "= ▲ ▲", "▲ ▲ ▲"],
    ["skipping: paper", "= ▲ ▲", "▲ ▲ ▼", "▲ ▲ ="],
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
