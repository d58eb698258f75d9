import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import type { SweepSummary } from "../../../sweep/trial.ts";
import { describeSearch } from "../../reports/search_notes.ts";
import { tabulateTrials } from "../../reports/trial_table.ts";
import { makeSummary, makeTrial } from "../../testing.ts";
import { collectRace, plotRace } from "./race.ts";

/** Three trials of one fraction over four chunks: the best, one that is 0.5 behind, one stopped after two chunks. */
function raced(): SweepSummary {
  const summary = makeSummary([makeTrial({}, 0.5, 40)]), [first] = summary.trials;
  const whole = (trial: string, shift: number) => ({
    ...first!,
    trial,
    lossBlocks: { sums: [1, 2, 3, 4].map((x) => 10 * (x + shift)), sizes: [10, 10, 10, 10] },
  });
  return {
    ...summary,
    dense: { ...summary.dense, chunks: 4 },
    trials: [whole("a", 0), whole("b", 0.5)],
    stopped: [{
      ...first!,
      trial: "c",
      stopped: "0.9 behind the best on the same chunks",
      chunkLosses: [3.8, 2],
      chunks: 4,
      partialDelta: 1.25,
      stoppedAt: "",
    }],
    race: { kind: "sequential", seed: 0, order: [2, 0, 3, 1], read: 10, of: 12 },
  };
}

Deno.test("collectRace() has how far trials were behind the best, in the race's order, and plotRace() a cross an end", () => {
  const numbers = collectRace(raced())!;
  assertEquals([numbers.curves.length, numbers.chunks], [2, 4]);
  const [finished, stopped] = numbers.curves;
  assertEquals(finished!.behind, [0.5, 0.5, 0.5, 0.5]);
  assertEquals(finished!.stopped, undefined);
  assertEquals(stopped!.behind.length, 2);
  assertAlmostEquals(stopped!.behind[0]!, 0.8, 1e-12); // 3.8 next to 3
  assertAlmostEquals(stopped!.behind[1]!, 0.9, 1e-12);
  assertAlmostEquals(numbers.saved, 1 / 6, 1e-12);
  const figure = plotRace(numbers), crosses = figure.data.at(-1)!;
  assertEquals([crosses.x, figure.data.length], [[2], 3]);
  assertStringIncludes(figure.caption, "1 trial stopped early");
  assertEquals(collectRace(makeSummary([])), undefined);
  assertEquals(plotRace(undefined).data, []);
});

Deno.test("stopped trials are marked rows at the end of the table, without results", () => {
  const { columns, rows, hints } = tabulateTrials(raced()), cell = (name: string) => columns.indexOf(name);
  assertEquals(rows.length, 4);
  const last = rows.at(-1)!;
  assertEquals(last[cell("rule")]!.endsWith(" x"), true);
  assertEquals(last[cell("loss increase")], "+1.2500 of 2/4");
  assertEquals(["ppl", "Q skipped", "pairs", "time"].map((name) => last[cell(name)]), ["-", "-", "-", "-"]);
  assertStringIncludes(hints[cell("rule")]!, "x = stopped early by the race");
  assertEquals(describeSearch(raced()), [
    "Race (sequential): 1 of 3 trials stopped early, 17% of the chunk evaluations saved.",
  ]);
  const search = {
    ...{ sampler: "tpe", seed: 3, proposed: 8, repeated: 0, refused: 0, firstRefused: null },
    ...{ objectives: ["loss"], importances: { tau: 1 } },
  };
  const described = (change: Partial<typeof search>) =>
    describeSearch({ ...makeSummary([]), search: { ...search, ...change } as never })[0];
  assertEquals(described({}), "Search by tpe, seed 3, for low loss: 8 proposals.");
  assertEquals(
    described({ repeated: 2 }),
    "Search by tpe, seed 3, for low loss: 8 proposals, of which 2 repeated what was known.",
  );
});
