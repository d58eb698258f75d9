import { assertEquals } from "@std/assert";
import { PRESETS } from "../../methods/bind/option_table.ts";
import { makeTrial } from "../testing.ts";
import { configurationLines, methodName, optionText, varyingOptions } from "./trial_label.ts";

Deno.test("varyingOptions() are those that differ within a name, or among trials that are no preset", () => {
  const trial = (options: Parameters<typeof makeTrial>[0]) => makeTrial(options, 0.5, 60);
  const rules = [trial({ fusion: "variance", warmup: 4 }), trial({ fusion: "mean", warmup: 8 })];
  assertEquals(rules.map(methodName), ["variance", "mean"]);
  assertEquals(varyingOptions(rules), ["warmup"]);
  const shuffled = [false, true].map((shuffle) => trial({ fusion: "variance", shuffle }));
  assertEquals([shuffled.map(methodName), varyingOptions(shuffled)], [["variance", "variance shuffled"], []]);
  assertEquals(varyingOptions([rules[0]!, trial({ fusion: "variance", warmup: 8 })]), ["warmup"]);
  // Methods that evict and methods that skip have options of their own.
  const keys = trial({ side: "key", fusion: "key", warmup: 64, recent: 128 });
  assertEquals(varyingOptions([rules[0]!, keys]), []);
  const presets = [PRESETS.paper, PRESETS.local].map((preset) => trial({ ...preset, pruneRatio: 0.5 }));
  assertEquals(presets.map(methodName), ["paper", "local"]);
  assertEquals(varyingOptions(presets), []);
  assertEquals(varyingOptions([presets[0]!, rules[0]!]), []);
});

Deno.test("a trial whose layers are whole by the probe says which, in the table and on hovering", () => {
  const trial = { ...makeTrial({ preset: "retrieval", whole: "auto" }, null, 60), wholeLayers: [4, 8] };
  assertEquals(optionText("whole", "auto", trial), "auto: 4+8");
  assertEquals([optionText("whole", [4, 8], trial), optionText("whole", "auto")], ["4+8", "auto"]);
  assertEquals(optionText("whole", "heads", { wholeLayers: [5], wholeHeads: ["17.1"] }), "heads: 5+17.1");
  assertEquals(configurationLines(trial).some((line) => line.includes("whole auto: 4+8")), true);
});
