import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { digestTokenizer } from "./tokenizer.ts";

const tokenizer = {
  ...{ vocabSize: 3, bosId: 1, addsBos: false, endIds: new Set([2, 1]) },
  bytes: (id: number) => Uint8Array.of(id, 7),
  encode: () => Int32Array.of(0, 2),
};

Deno.test("digestTokenizer() tells apart what encodes, ends or spells otherwise, and nothing else", async () => {
  const digest = await digestTokenizer(tokenizer);
  assertMatch(digest, /^[0-9a-f]{64}$/);
  assertEquals(await digestTokenizer({ ...tokenizer, endIds: new Set([1, 2]) }), digest);
  const others = [
    { encode: () => Int32Array.of(0, 1) },
    { bytes: (id: number) => Uint8Array.of(id, 8) },
    { vocabSize: 2 },
    { bosId: undefined },
    { addsBos: true },
    { endIds: new Set([2]) },
  ];
  for (const other of others) assertNotEquals(await digestTokenizer({ ...tokenizer, ...other }), digest);
});
