import { assertEquals } from "@std/assert";
import { fromBf16, fromF16, toBf16, toF16 } from "./half.ts";

Deno.test("fromF16() reads normal, subnormal and special patterns", () => {
  assertEquals(fromF16(0x3c00), 1);
  assertEquals(fromF16(0xc248), -3.140625);
  assertEquals(fromF16(0x0001), 2 ** -24);
  assertEquals(fromF16(0x7bff), 65504);
  assertEquals(fromF16(0x7c00), Infinity);
});

Deno.test("toF16() rounds to nearest even and gives back every number's pattern", () => {
  assertEquals(toF16(1 + 2 ** -11), 0x3c00);
  assertEquals(toF16(1 + 3 * 2 ** -11), 0x3c02);
  assertEquals(toF16(65520), 0x7c00);
  for (let pattern = 0; pattern < 65536; pattern++) {
    const value = fromF16(pattern);
    if (!Number.isNaN(value)) assertEquals(toF16(value), pattern);
  }
});

Deno.test("toBf16() rounds to nearest even", () => {
  assertEquals(fromBf16(toBf16(1)), 1);
  assertEquals(fromBf16(toBf16(1 + 2 ** -8)), 1);
  assertEquals(fromBf16(toBf16(1 + 3 * 2 ** -8)), 1 + 2 ** -6);
  assertEquals(fromBf16(toBf16(-3.140625)), -3.140625);
  assertEquals(fromBf16(toBf16(3.4e38)), Infinity);
  assertEquals(Number.isNaN(fromBf16(toBf16(NaN))), true);
});
