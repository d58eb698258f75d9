import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { mix64, projectionSigns, randomScore } from "./random.ts";

const GOLDEN = 0x9E3779B97F4A7C15n;

Deno.test("mix64() gives SplitMix64's published outputs for seed 1234567", () => {
  // https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
  const want = [
    6457827717110365317n,
    3203168211198807973n,
    9817491932198370423n,
    4593380528125082431n,
    16408922859458223821n,
  ];
  assertEquals(want.map((_, i) => mix64(1234567n + BigInt(i + 1) * GOLDEN)), want);
});

Deno.test("mix64() takes its counter mod 2^64", () => {
  assertEquals(mix64(5n + (1n << 64n)), mix64(5n));
  assertEquals(mix64(0n), 0n);
});

Deno.test("randomScore() is the top 53 bits of the hash over 2^53", () => {
  // seed 0, chunk 1, layer 0, t 0 is SplitMix64's first output from seed 0: 0xE220A8397B1DCDAF.
  assertEquals(randomScore(0n, 1, 0, 0), Number(0xE220A8397B1DCDAFn >> 11n) / 2 ** 53);
  assertEquals(randomScore(1n, 0, 0, 0), randomScore(0n, 1, 0, 0));
});

Deno.test("randomScore() is uniform and differs by layer", () => {
  const scores = Array.from({ length: 4000 }, (_, t) => randomScore(7n, 0, 3, t));
  assert(scores.every((s) => s >= 0 && s < 1));
  assertAlmostEquals(scores.reduce((a, b) => a + b) / 4000, 0.5, 0.02);
  assert(randomScore(7n, 0, 4, 9) !== scores[9]);
});

Deno.test("projectionSigns() takes the sign from the hash's top bit", () => {
  const signs = projectionSigns(1n, 0, 64, 16);
  assertEquals(signs[0], -1); // the top bit of 0xE220… is set
  assert(signs.every((s) => s === 1 || s === -1));
  const at = mix64(GOLDEN + (5n << 8n) + 3n);
  assertEquals(signs[5 * 16 + 3], at >> 63n === 1n ? -1 : 1);
  const other = projectionSigns(1n, 3, 64, 16),
    plain = Int8Array.from(other, (_, i) => {
      return mix64(GOLDEN + (3n << 40n) + BigInt((i >> 4) * 256 + (i & 15))) >> 63n === 1n ? -1 : 1;
    });
  assertEquals(other, plain);
  const sum = signs.reduce((a, b) => a + b, 0);
  assert(Math.abs(sum) < 4 * Math.sqrt(64 * 16), `${sum} of 1024 signs`);
});
