import { assertEquals, assertThrows } from "@std/assert";
import { makeSummary, makeTrial } from "./testing.ts";
import { plotSweep } from "./sweep_report.ts";
import { applyTheme, DARK, LIGHT } from "./theme.ts";

Deno.test("applyTheme() replaces every colour name and nothing else", () => {
  assertEquals(applyTheme({ a: ["@ink", 1, null], b: "ink@" }, LIGHT), {
    a: [LIGHT["@ink"]!, 1, null],
    b: "ink@",
  });
  assertThrows(() => applyTheme("@none", LIGHT), RangeError, "@none");
});

Deno.test("themes have the same names, and every figure draws in both", () => {
  assertEquals(Object.keys(LIGHT), Object.keys(DARK));
  const rules = [
    "learned",
    "variance",
    "oracle",
    "mean",
    "key",
    "value",
    "static",
    "min",
    "max",
    "product",
    "random",
  ];
  const summary = makeSummary(rules.map((fusion) => makeTrial({ fusion: fusion as "key" }, 0.5, 50)));
  for (const figure of plotSweep(summary)) {
    for (const theme of [LIGHT, DARK]) {
      assertEquals(JSON.stringify(figure.toJson(theme)).includes('"@'), false);
    }
  }
});
