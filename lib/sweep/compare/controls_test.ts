import { assert, assertEquals } from "@std/assert";
import { PRESETS } from "../../methods/bind/option_table.ts";
import { type MethodOptions, resolveOptions } from "../../methods/bind/options.ts";
import { presetName, seedlessKey } from "./controls.ts";
import { DEFAULT_GRID, FULL_GRID } from "../default_grid.ts";
import { comparedMethods } from "./compared_methods.ts";
import { expandGrids } from "../space.ts";

Deno.test("presetName() knows presets and their controls at any ratio and seed, and nothing else", () => {
  const name = (options: MethodOptions) => presetName(resolveOptions(options));
  for (const preset of Object.keys(PRESETS) as (keyof typeof PRESETS)[]) {
    assertEquals(name({ preset, pruneRatio: 0.3, seed: 7 }), preset);
    assertEquals(name({ preset, fusion: "random", pruneRatio: 0.2, seed: 2 }), `random for ${preset}`);
    assertEquals(name({ preset, block: 16, warmup: 200 }), undefined);
  }
  assertEquals(name({ preset: "keys", kvRatio: 0.75 }), "keys");
  assertEquals(name({ preset: "local", kvRatio: 0.75 }), "local");
  assertEquals([name({}), name({ recent: 0 }), name({ recent: 0, invert: true })], [
    undefined,
    "paper",
    undefined,
  ]);
  assertEquals(name({ preset: "paper", fusion: "oracle" }), "oracle for paper");
});

Deno.test("the default grids compare every preset with random at its own options, as compare does with one preset", () => {
  for (const [grids, all, ofRetrieval, seeds] of [[DEFAULT_GRID, 2, 1, 2], [FULL_GRID, 3, 3, 3]] as const) {
    const grid = expandGrids(grids), names = grid.map(presetName);
    for (const preset of Object.keys(PRESETS)) {
      const ratios = preset === "retrieval" ? ofRetrieval : all;
      assertEquals(names.filter((name) => name === preset).length, ratios);
      assertEquals(names.filter((name) => name === `random for ${preset}`).length, ratios * seeds);
      const half = new Set(grid.map(seedlessKey));
      const own = comparedMethods([preset, "random"], {}, 3);
      assertEquals(own.length, 4);
      assert(own.every(({ options }) => half.has(seedlessKey(options))), preset);
    }
  }
});
