import { assertEquals, assertStringIncludes } from "@std/assert";
import type { LengthRow } from "../../../eval/lengths.ts";
import { styleRule } from "../../trials/rule_style.ts";
import { collectLengths, plotLengths } from "./lengths.ts";

const row = (
  name: string,
  tokens: number,
  prefillMs: number,
  decodeMs: number | null,
  held: number,
): LengthRow => ({
  name,
  tokens,
  prefillMs,
  decodeMs,
  kvBytesHeld: held,
  kvBytesDense: 2e6,
  kvBytesAllocated: held,
});
const rows = [
  row("dense", 128, 4, 1, 2e6),
  row("half", 2048, 32, 1.5, 16e6),
  row("half", 128, 3, 0.5, 1e6),
  row("oracle", 128, 5, null, 1e6),
];

Deno.test("collectLengths() has a curve a method, compared with dense at the same length", () => {
  assertEquals(collectLengths(rows, "prefill").curves[1], {
    name: "half",
    tokens: [128, 2048],
    values: [3, 32],
    overDense: [0.75, null],
  });
  assertEquals(collectLengths(rows, "decode").curves.map(({ name }) => name), ["dense", "half"]);
  assertEquals(collectLengths(rows, "memory").curves.map(({ values }) => values), [[2], [1, 16], [1]]);
  for (const measure of ["prefill", "decode"] as const) {
    assertEquals(collectLengths(rows, `whole ${measure}`).curves, collectLengths(rows, measure).curves);
  }
});

Deno.test("plotLengths() marks the measured lengths, and says what is missing", () => {
  const figure = plotLengths(collectLengths(rows, "prefill"));
  assertEquals(figure.data.map(({ name }) => name), ["dense", "half", "oracle"]);
  assertEquals((figure.layout.xaxis as { tickvals: number[] }).tickvals, [128, 2048]);
  const lines = figure.data.map(({ line }) => line as { color: string; dash: string });
  assertEquals(lines[0], { color: "@muted", width: 2, dash: "dot" } as never);
  assertEquals([lines[1]!.color, lines[1]!.dash], ["@series1", "solid"]);
  assertEquals(lines[2]!.color, styleRule("oracle").color);
  assertStringIncludes((figure.data[1]!.text as string[])[0]!, "0.750 of the full model");
  const many = Array.from({ length: 13 }, (_, i) => row("dense", i + 1, 1, 1, 1));
  const ticks = plotLengths(collectLengths(many, "memory")).layout.xaxis as { tickvals: number[] };
  assertEquals(ticks.tickvals, [1, 4, 7, 10, 13]);
  assertStringIncludes(
    JSON.stringify(plotLengths(collectLengths([], "decode")).layout),
    "Nothing was measured",
  );
});
