import { assertEquals, assertThrows } from "@std/assert";
import { collectUntil } from "./collector_testing.ts";
import { Owned, Scope } from "./owned.ts";

Deno.test("Owned frees once, and refuses use afterwards", () => {
  const freed: number[] = [];
  const owned = new Owned("Cannot use it: it was freed", 7, (value) => freed.push(value));
  assertEquals([owned.value, freed.length], [7, 0]);
  owned[Symbol.dispose]();
  owned[Symbol.dispose]();
  assertEquals(freed, [7]);
  assertThrows(() => owned.value, Error, "Cannot use it: it was freed");
});

Deno.test("Scope frees what is left in it, the last made first, then itself", () => {
  const ended: string[] = [];
  const scope = new Scope("Cannot use the scope: it was disposed", () => ended.push("scope"));
  const [a, b, c] = ["a", "b", "c"].map((name) =>
    new Owned(`Cannot use ${name}: it was freed`, name, (value) => ended.push(value), scope)
  );
  scope.expectOpen();
  b![Symbol.dispose]();
  scope[Symbol.dispose]();
  scope[Symbol.dispose]();
  for (const owned of [a, b, c]) owned![Symbol.dispose]();
  assertEquals(ended, ["b", "c", "a", "scope"]);
  assertThrows(() => c!.value, Error, "Cannot use c: it was freed");
  assertThrows(() => scope.expectOpen(), Error, "Cannot use the scope: it was disposed");
  assertThrows(() => new Owned("", "d", () => ended.push("d"), scope), Error, "it was disposed");
  assertEquals(ended.length, 4);
});

Deno.test("Scope ends after everything in it where there is no reference to either any more", async () => {
  const ended: string[] = [];
  const make = () => {
    const scope = new Scope("", () => ended.push("scope"));
    for (const name of ["a", "b"]) new Owned("", name, (value) => ended.push(value), scope);
    return new Owned("", "c", (value) => ended.push(value), scope);
  };
  let kept: Owned<string> | undefined = make();
  await collectUntil(() => ended.length === 2);
  assertEquals(ended.toSorted(), ["a", "b"]); // a scope lives as long as its values
  assertEquals(kept.value, "c");
  kept = undefined;
  await collectUntil(() => ended.length === 4);
  assertEquals(ended.slice(2), ["c", "scope"]);
});
