import { assertEquals } from "@std/assert";
import { makeSummary, makeTrial } from "../testing.ts";
import { tabulateTrials } from "./trial_table.ts";

Deno.test("tabulateTrials() shows options that vary, where they have an effect", () => {
  const summary = makeSummary([
    makeTrial({ fusion: "variance", tau: 2, pruneRatio: 0.3 }, 0.3, 60),
    makeTrial({ fusion: "variance", tau: 1, pruneRatio: 0.3 }, 0.3, 50),
    makeTrial({ fusion: "oracle", pruneRatio: 0.3 }, null, 44),
  ]);
  const { columns, rows, left, hints } = tabulateTrials(summary);
  assertEquals(columns, [
    "asked",
    "rule",
    "tau",
    "skipped",
    "ppl",
    "dNLL",
    "se",
    "KL",
    "top-1",
    "KV held",
    "FLOPs",
    "time",
  ]);
  assertEquals(rows, [
    ["-", "dense", "-", "0.000", "40.00", "-", "-", "-", "-", "100%", "100%", "100%"],
    ["0.3", "variance *", "1", "0.300", "50.00", "+0.2231", "0.0100", "0.5000", "75.0%", "60%", "90%", "80%"],
    ["0.3", "variance", "2", "0.300", "60.00", "+0.4055", "0.0100", "0.6000", "75.0%", "60%", "90%", "80%"],
    ["0.3", "oracle ^", "-", "- !", "44.00", "+0.0953", "0.0100", "0.4400", "75.0%", "60%", "90%", "80%"],
  ]);
  assertEquals([left.indexOf(true), hints.length], [1, 12]);
});

Deno.test("tabulateTrials() shows named options though they do not vary, and columns without trials", () => {
  const { trials, dense, environment } = makeSummary([makeTrial({ fusion: "key" }, 0.5, 50)]);
  const named = tabulateTrials({ trials, dense, environment }, ["recent", "magic"]);
  assertEquals([named.columns[2], named.rows[1]![2]], ["recent", "16"]);
  assertEquals(tabulateTrials({ trials: [], dense: {}, environment: {} }).columns.slice(0, 4), [
    "asked",
    "rule",
    "skipped",
    "ppl",
  ]);
});
