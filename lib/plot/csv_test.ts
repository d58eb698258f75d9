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

Deno.test("formatCsv() marks texts that a spreadsheet would take for formulas, and writes control characters out", () => {
  const texts = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1-1", "\t=1", "a\x1b[31m\rb\u202e", "plain = 1"];
  assertEquals(
    formatCsv(texts.map((name) => ({ name }))),
    "name\n'=cmd|' /C calc'!A0\n'@SUM(1)\n'+1+1\n'-1-1\n'\t=1\na\\u001b[31m\\u000db\\u202e\nplain = 1\n",
  );
  const numbers = { a: -1, b: [-1, 2], c: "-0.5", d: "+0.98 [+0.57, +1.42]", e: "-1e-7", "=f": ["=1"] };
  assertEquals(formatCsv([numbers]), `a,b,c,d,e,'=f\n-1,-1 2,-0.5,"+0.98 [+0.57, +1.42]",-1e-7,'=1\n`);
});
