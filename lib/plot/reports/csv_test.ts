import { assertEquals } from "@std/assert";
import { formatCsv } from "./csv.ts";

Deno.test("formatCsv() has a column a field, and quotes what needs it", () => {
  const records = [{ name: 'a "b", c', gap: { low: 0.1, high: null }, layers: [1, 2] }, {
    name: "d\ne",
    nll: NaN,
  }];
  assertEquals(
    formatCsv(records),
    'name,gap.low,gap.high,layers,nll\n"a ""b"", c",0.1,,1 2,\n"d\ne",,,,\n',
  );
});
