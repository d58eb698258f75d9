import { assertEquals, assertThrows } from "@std/assert";
import { effectiveKey } from "../methods/bind/options.ts";
import { DEFAULT_GRID, FULL_GRID } from "./default_grid.ts";
import { expandGrids, readGrids } from "./space.ts";

const rows = (grids: unknown, ...names: string[]) =>
  expandGrids(readGrids(grids)).map((trial) => names.map((name) => (trial as Record<string, unknown>)[name]));

Deno.test("expandGrids() takes the cartesian product in order, the last axis fastest", () => {
  assertEquals(rows({ fusion: ["variance", "key"], pruneRatio: [0.1, 0.3] }, "fusion", "pruneRatio"), [
    ["variance", 0.1],
    ["variance", 0.3],
    ["key", 0.1],
    ["key", 0.3],
  ]);
});

Deno.test("expandGrids() drops trials that decide alike", () => {
  // tau means nothing to `mean`
  assertEquals(expandGrids([{ fusion: ["variance", "mean"], tau: [0.5, 1, 2] }]).length, 4);
  assertEquals(
    rows({ fusion: ["variance", "mean", "random"], tau: [0.5, 1], seed: [0, 1] }, "fusion", "tau", "seed"),
    [["variance", 0.5, 0n], ["variance", 1, 0n], ["mean", 0.5, 0n], ["random", 0.5, 0n], ["random", 0.5, 1n]],
  );
  assertEquals(rows([{ fusion: "mean" }, { fusion: ["mean", "key"] }], "fusion"), [["mean"], ["key"]]);
});

Deno.test("readGrids() takes a list of grids, flag names, and lists of lists", () => {
  assertEquals(rows([{ "prune-ratio": [0.2] }, { pruneRatio: 0.3 }], "pruneRatio"), [[0.2], [0.3]]);
  assertEquals(rows({ fusion: "learned", features: "similarity+norm" }, "features"), [[[
    "similarity",
    "norm",
  ]]]);
  assertEquals(rows({ fusion: "learned", features: ["similarity", "norm"] }, "features"), [[[
    "similarity",
    "norm",
  ]]]);
  assertEquals(
    rows({ fusion: "learned", features: ["similarity+norm", "norm"] }, "features"),
    [[["similarity", "norm"]], [["norm"]]],
  );
  assertEquals(rows({ skipRatios: [0, 0.5] }, "skipRatios"), [[[0, 0.5]]]);
  assertEquals(rows({ skipRatios: [[0, 0.5], [0.5, 0]] }, "skipRatios"), [[[0, 0.5]], [[0.5, 0]]]);
  assertEquals(rows({ preset: "paper" }, "fusion", "recent"), [["variance", 0]]);
});

Deno.test("readGrids() and expandGrids() name what is wrong", () => {
  assertThrows(() => readGrids({ gama: 1 }), TypeError, 'the nearest is "gamma"');
  assertThrows(() => readGrids([]), TypeError, "empty list");
  assertThrows(() => readGrids({ pruneRatio: 0.1, "prune-ratio": 0.2 }), TypeError, '"pruneRatio" twice');
  assertThrows(() => readGrids("variance"), TypeError, "expected an object");
  assertThrows(() => readGrids([[1]]), TypeError, "expected an object");
  assertThrows(() => rows({ tau: [] }), RangeError, 'axis "tau"');
  assertThrows(() => rows({ tau: [1, 65] }), RangeError, "tau");
  assertThrows(() => rows({ tau: "1" }), TypeError, "tau");
  const long = Array.from({ length: 101 }, (_, i) => i / 200);
  assertThrows(() => rows({ tau: long, gamma: long }), RangeError, "10201 trials");
});

Deno.test("the default grids have random over several seeds, the paper's rule, and the numbers of trials that help tells", () => {
  for (const [grid, count, seeds] of [[DEFAULT_GRID, 32, 2], [FULL_GRID, 81, 3]] as const) {
    const trials = expandGrids(grid);
    const has = (fusion: string, recent: number) =>
      trials.filter((t) => t.fusion === fusion && t.recent === recent);
    assertEquals(trials.length, count);
    assertEquals(new Set(has("random", 16).map((t) => t.seed)).size, seeds);
    assertEquals([has("learned", 16).length > 0, has("variance", 0).length > 0], [true, true]);
  }
});

Deno.test("the full grid holds every trial of the default one", () => {
  const full = new Set(expandGrids(FULL_GRID).map(effectiveKey));
  assertEquals(expandGrids(DEFAULT_GRID).filter((trial) => !full.has(effectiveKey(trial))), []);
});
