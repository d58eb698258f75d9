import { assertEquals } from "@std/assert";
import { nearest, sayNearest } from "./nearest.ts";

Deno.test("nearest() finds the name with the fewest edits", () => {
  const known = ["gamma", "lambda", "tail", "tau", "pruneRatio", "warmup"];
  assertEquals(nearest("gama", known), "gamma");
  assertEquals(nearest("prune-ration", known), "pruneRatio");
  assertEquals(nearest("warm_up", known), "warmup");
  assertEquals(nearest("tua", ["xya", "tau"]), "tau"); // a swap is one edit, not two
  assertEquals(nearest("LAMDA", known), "lambda");
  assertEquals(nearest("no-json", ["quiet", "json"]), "json");
});

Deno.test("nearest() takes the first of equals and endures odd names", () => {
  assertEquals(nearest("tax", ["tau", "tay"]), "tau");
  assertEquals(nearest("", ["tau", "tail"]), undefined);
  assertEquals(nearest("tau".repeat(100_000), ["tau", "tail"]), undefined);
});

Deno.test("nearest() finds none where none is near", () => {
  assertEquals(nearest("magic", ["variance", "mean"]), undefined);
  assertEquals([nearest("abxy", ["abcd"]), nearest("axyz", ["abcd"])], ["abcd", undefined]);
  assertEquals([nearest("abx", ["abc"]), nearest("axx", ["abc"])], ["abc", undefined]);
  assertEquals([nearest("abcxyz", ["abcd"]), nearest("abcdef", ["abcdxy"])], [undefined, "abcdxy"]);
  assertEquals([sayNearest("gama", ["gamma"], ": ", "--"), sayNearest("x", ["gamma"])], [
    ': the nearest is "--gamma"',
    "",
  ]);
});
