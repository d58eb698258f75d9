import { assertEquals } from "@std/assert";
import { nearest } from "./nearest.ts";

Deno.test("nearest() finds the name with the fewest edits", () => {
  const known = ["gamma", "lambda", "tail", "tau", "pruneRatio", "warmup"];
  assertEquals(nearest("gama", known), "gamma");
  assertEquals(nearest("prune-ration", known), "pruneRatio");
  assertEquals(nearest("warm_up", known), "warmup");
  assertEquals(nearest("tua", ["xya", "tau"]), "tau"); // a swap is one edit, not two
  assertEquals(nearest("LAMDA", known), "lambda");
});

Deno.test("nearest() takes the first of equals and endures odd names", () => {
  assertEquals(nearest("xyz", ["abc", "def"]), "abc");
  assertEquals(nearest("", ["tau", "tail"]), "tau");
  assertEquals(nearest("x".repeat(100_000), ["tau", "tail"]), "tau");
});
