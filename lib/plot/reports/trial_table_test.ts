import { assertEquals } from "@std/assert";
import { readMetric } from "../../eval/metrics.ts";
import { makeSummary, makeTrial } from "../testing.ts";
import { foldSeeds, tabulateTrials } from "./trial_table.ts";

Deno.test("tabulateTrials() shows options that vary, where they have an effect", () => {
  const summary = makeSummary([
    makeTrial({ fusion: "variance", tau: 2, pruneRatio: 0.3 }, 0.3, 60),
    makeTrial({ fusion: "variance", tau: 1, pruneRatio: 0.3 }, 0.3, 50),
    makeTrial({ fusion: "oracle", pruneRatio: 0.3 }, null, 44),
  ]);
  const { columns, rows, left, hints } = tabulateTrials(summary);
  assertEquals(columns, [
    "ratio",
    "rule",
    "tau",
    "Q skipped",
    "ppl",
    "loss increase",
    "95%",
    "KL",
    "top-1",
    "pairs",
    "attn FLOPs",
    "KV cache",
    "proj FLOPs",
    "FLOPs",
    "time",
  ]);
  const shares = ["75%", "60%", "60%", "50%", "90%", "80%"];
  assertEquals(rows, [
    ["-", "dense", "-", "0.000", "40.00", "-", "-", "-", "-", ...Array(6).fill("100%")],
    [
      "0.3",
      "variance *",
      "1",
      "0.300",
      "50.00",
      "+0.2231",
      "[+0.2018, +0.2445]",
      "0.5000",
      "75.0%",
      ...shares,
    ],
    ["0.3", "variance", "2", "0.300", "60.00", "+0.4055", "[+0.3842, +0.4268]", "0.6000", "75.0%", ...shares],
    ["0.3", "oracle ^", "-", "- !", "44.00", "+0.0953", "[+0.0740, +0.1166]", "0.4400", "75.0%", ...shares],
  ]);
  assertEquals([left.indexOf(true), hints.length], [1, 15]);
});

Deno.test("tabulateTrials() gives the interval of the loss increase in its unit, where there are two blocks", () => {
  const sizes = [32, 32], wide = makeTrial({ fusion: "variance" }, 0.3, 50);
  const cell = (trial: typeof wide) => {
    const { columns, rows } = tabulateTrials(makeSummary([trial]));
    return rows[1]![columns.indexOf("95%")];
  };
  // Student's t of one degree is 12.706.
  assertEquals(cell({ ...wide, lossBlocks: { sums: [1, 2], sizes } }), "[+0.0961, +0.3502]");
  assertEquals(cell({ ...wide, nllDeltaSe: null, lossBlocks: { sums: [1], sizes: [64] } }), "-");
});

Deno.test("tabulateTrials() shows the requested ratio and the compression ratio", () => {
  const keys = { ...makeTrial({ preset: "keys", kvRatio: 0.75 }, 0, 45), kvAchievedRatio: 0.7512 };
  const both = {
    ...makeTrial({ kvFusion: "random", fusion: "mean", pruneRatio: 0.25, kvRatio: 0.5 }, 0.25, 50),
    kvAchievedRatio: 0.25,
  };
  const { columns, rows } = tabulateTrials(makeSummary([keys, both, makeTrial({ fusion: "key" }, 0.5, 60)]));
  const of = (name: string) => rows.slice(1).map((row) => row[columns.indexOf(name)]);
  assertEquals(of("rule").map((rule) => rule!.replace(" *", "")), [
    ...["mean + random on keys", "key", "keys"],
  ]);
  assertEquals(of("ratio"), ["0.25, 0.5 of KV", "0.5", "0.75 of KV"]);
  assertEquals(of("KV evicted"), ["0.250", "-", "0.751"]);
});

Deno.test("tabulateTrials() shows named options though they do not vary, and columns without trials", () => {
  const { trials, dense, environment } = makeSummary([makeTrial({ fusion: "key" }, 0.5, 50)]);
  const named = tabulateTrials({ trials, dense, environment }, ["recent", "magic"]);
  assertEquals([named.columns[2], named.rows[1]![2]], ["recent", "16"]);
  assertEquals(tabulateTrials({ trials: [], dense: {}, environment: {} }).columns.slice(0, 5), [
    "ratio",
    "rule",
    "Q skipped",
    "KV evicted",
    "ppl",
  ]);
});

Deno.test("foldSeeds() makes one row of a control's seeds, with the mean of what was measured", () => {
  const trials = [
    // The luckiest seed beats every method, and is on no front.
    ...[40, 44, 48].map((perplexity, seed) => makeTrial({ fusion: "random", seed }, 0.5, perplexity)),
    makeTrial({ fusion: "random", seed: 0, pruneRatio: 0.3 }, 0.3, 42),
    ...[41, 43].map((perplexity, seed) =>
      makeTrial({ fusion: "variance", gamma: 0.5 + seed / 10 }, 0.5, perplexity)
    ),
  ];
  const summary = makeSummary(trials), folded = foldSeeds(summary);
  assertEquals(folded.trials.map((trial) => readMetric(trial, "perplexity")), [42, 41, 43, 44]);
  const { columns, rows } = tabulateTrials(folded);
  const rule = columns.indexOf("rule");
  assertEquals(columns.includes("seed"), false);
  assertEquals(rows.slice(1).map((row) => row[rule]), [
    "random",
    "variance *",
    "variance",
    "random (3 seeds)",
  ]);
});
