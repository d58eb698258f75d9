import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { MethodOptions } from "../../methods/bind/options.ts";
import { diffRuns } from "../../sweep/compare/difference.ts";
import { makeSummary, makeTrial } from "../testing.ts";
import { collectRunDifferences, plotRunDifferences } from "../plots/methods/run_differences.ts";
import {
  describeDifference,
  listDifferences,
  renderDifferenceReport,
  tabulateDifference,
} from "./difference.ts";

const trial = (options: MethodOptions, loss: number, achieved = 0.5) =>
  makeTrial({ pruneRatio: 0.5, ...options }, achieved, 40 * Math.exp(loss));
const run = (name: string, trials: readonly ReturnType<typeof trial>[]) =>
  ({ kind: "sweep", name, data: makeSummary(trials) }) as const;

const diff = diffRuns(
  run("old <1>", [
    trial({ recent: 0 }, 0.5),
    trial({ fusion: "key", recent: 0 }, 0.6),
    trial({ fusion: "mean", recent: 0 }, 0.25),
  ]),
  run("new", [
    trial({ recent: 16 }, 0.25),
    trial({ fusion: "key", recent: 16 }, 0.625, 0.4),
    trial({ fusion: "mean", recent: 16 }, 0.25),
  ]),
);

Deno.test("describeDifference() says first how many trials cost less or more, then what was compared", () => {
  const lines = describeDifference(diff);
  assertEquals(lines.slice(0, 3), [
    "Of 3 trials, 1 cost less in B than in A, 1 more, and 1 no different beyond 95% intervals.",
    "Furthest apart: “variance · 0.5”, -0.2500 [-0.2500, -0.2500] nats per token.",
    "Option recent: 0 in A, 16 in B.",
  ]);
  assertStringIncludes(
    lines[3]!,
    "Paired: both read the same tokens; differences are those of 64 tokens each",
  );
  assertEquals(lines.at(-1), "A: old <1>; B: new.");
  const same = run("x", [trial({}, 0.5), trial({ fusion: "key" }, 0.5)]);
  assertEquals(
    describeDifference(diffRuns(same, same))[0],
    "Of 2 trials none costs more or less in B than in A.",
  );
  const alone = describeDifference(
    diffRuns(same, run("y", [trial({ fusion: "min" }, 1), trial({ fusion: "max" }, 1)])),
  );
  assertEquals([alone[0], ...alone.slice(-3, -1)], [
    "No trial is in both runs: nothing to compare.",
    "2 trials in A alone.",
    "2 trials in B alone.",
  ]);
});

Deno.test("tabulateDifference() has the full model first, and shows both ratios where they differ", () => {
  const { columns, rows, hints } = tabulateDifference(diff);
  assertEquals(columns, ["trial", "Q skipped", "ppl A", "ppl B", "B - A", "sign"]);
  assertEquals(rows.map((row) => [row[0], row[1], row[2], row[5]]), [
    ["dense", "0.000", "40.00", "="],
    ["mean · 0.5", "0.500", "51.36", "="],
    ["variance · 0.5", "0.500", "65.95", "<"],
    ["key · 0.5", "0.500 | 0.400 !", "72.88", ">"],
  ]);
  assertEquals(hints.length, columns.length);
  const records = listDifferences(diff) as { name: string; a: object }[];
  assertEquals(records.map(({ name }) => name), ["dense", "mean · 0.5", "variance · 0.5", "key · 0.5"]);
  assert(records.every(({ a }) => !("blocks" in a)));
});

Deno.test("collectRunDifferences() puts the least first, and of many methods shows those that differ most", () => {
  const { rows, left } = collectRunDifferences(diff);
  assertEquals([rows.map(({ name, missed }) => [name, missed]), left], [
    [["variance · 0.5", false], ["mean · 0.5", false], ["key · 0.5", true]],
    0,
  ]);
  const seeds = Array.from({ length: 45 }, (_, seed) => seed);
  const many = (shift: number) =>
    run("m", seeds.map((seed) => trial({ fusion: "random", seed }, (seed % 45) * shift)));
  const shown = collectRunDifferences(diffRuns(many(0.01), many(0.02)));
  assertEquals([shown.rows.length, shown.left, shown.rows[0]!.name], [40, 5, "random · 0.5 · seed 5"]);
  const [marks] = plotRunDifferences(collectRunDifferences(diff)).data;
  assertEquals((marks!.marker as { color: string[] }).color, ["@series2", "@muted", "@series1"]);
  assertEquals(plotRunDifferences({ unit: "nats", paired: true, rows: [], left: 0 }).data, []);
});

Deno.test("nameRows() shows what differs on both sides where the rule is what sets runs apart", () => {
  const single = (fusion: "key" | "mean", pruneRatio: number) =>
    run(fusion, [makeTrial({ fusion, pruneRatio }, pruneRatio, 50)]);
  const { rows } = collectRunDifferences(diffRuns(single("key", 0.3), single("mean", 0.5)));
  assertEquals(rows.map(({ name }) => name), ["key → mean · 0.3 → 0.5"]);
});

Deno.test("renderDifferenceReport() holds verdict, plot, table and what differs, and no losses by block", () => {
  const html = renderDifferenceReport(diff, { plotly: "" });
  for (const part of ["Two runs: old &lt;1&gt; and new", "Of 3 trials", "option recent", "diff.csv"]) {
    assertStringIncludes(html, part);
  }
  assert(!html.includes('"sums"'));
});
