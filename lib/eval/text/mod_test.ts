import { assert, assertEquals, assertMatch } from "@std/assert";
import { readBuiltinText } from "./mod.ts";

Deno.test("readBuiltinText() looks like the training data of `tiny`", async () => {
  const text = await readBuiltinText();
  const words = text.split(/\s+/).filter((word) => word !== "").length;
  assert(words > 2800 && words < 3500, `${words} words`);
  assertMatch(text, /^[\n\x20-\x7e]+$/);
  const lines = text.trimEnd().split("\n");
  assert(lines.every((line) => line !== "" && line === line.trim()));
  assertEquals(new Set(lines).size, lines.length);
});

Deno.test("readBuiltinText() repeats no run of eight words", async () => {
  const words = (await readBuiltinText()).toLowerCase().split(/[^a-z0-9']+/);
  const runs = words.slice(0, -7).map((_, i) => words.slice(i, i + 8).join(" "));
  assertEquals(new Set(runs).size, runs.length);
});
