import { assertEquals } from "@std/assert";
import { escapeControls, escapeLine } from "./printable.ts";

Deno.test("escapeControls() writes control characters out, and leaves lines, tabs and JSON as they are", () => {
  assertEquals(escapeControls("a\x1b[31m.txt\r\x00\x7f\x9b"), "a\\u001b[31m.txt\\u000d\\u0000\\u007f\\u009b");
  assertEquals(escapeControls("\x08\x0b\x1f"), "\\u0008\\u000b\\u001f");
  const plain = "two\n\tlines, ü, \u00a0, ~ and 字, שלום";
  assertEquals(escapeControls(plain), plain);
  const value = { name: "a\x1b\x7f\x9b\n\u202e" };
  assertEquals(JSON.parse(escapeControls(JSON.stringify(value))), value);
});

Deno.test("escapeControls() writes marks of direction out, and escapeLine() line ends and tabs too", () => {
  assertEquals(escapeControls("model\u202egpj.exe\u2066"), "model\\u202egpj.exe\\u2066");
  assertEquals(escapeLine("a\nb\tc\u2028\u202e\x1b"), "a\\u000ab\\u0009c\\u2028\\u202e\\u001b");
});
