import { assertEquals } from "@std/assert";
import { Progress } from "./progress.ts";
import { writeLine } from "../task.ts";
import { fitWords, lineWidth, terminalColumns, wrapLines } from "./terminal.ts";

Deno.test("fitWords() cuts between words", () => {
  assertEquals(fitWords("one two three", 13), "one two three");
  assertEquals(fitWords("one two three", 12), "one two…");
  assertEquals(fitWords("one two three", 8), "one two…");
  assertEquals(fitWords("one two three", 7), "one…");
  assertEquals(fitWords("one  two", 6), "one…");
  assertEquals(fitWords("seventeen", 5), "");
});

Deno.test("wrapLines() keeps lines that fit as they are", () => {
  assertEquals(wrapLines("a  b\nlonger than ten", 10), "a  b\nlonger\nthan ten");
  assertEquals(wrapLines("a  b c", 6), "a  b c");
  assertEquals(wrapLines("a b", Infinity), "a b");
});

Deno.test("lineWidth() is that of the terminal, 80 where it says none, and no limit for a pipe", () => {
  const { consoleSize } = Deno;
  const size = (columns: number) => () => ({ columns, rows: 1 });
  const none = () => {
    throw new Error("no terminal");
  };
  try {
    for (const [ask, columns] of [[size(101), 101], [size(0), 80], [none, 80]] as const) {
      Deno.consoleSize = ask;
      assertEquals([terminalColumns(), lineWidth({ isTerminal: () => true })], [columns, columns]);
      assertEquals(lineWidth({ isTerminal: () => false }), Infinity);
    }
  } finally {
    Deno.consoleSize = consoleSize;
  }
});

Deno.test("no line and no bar lets an escape code through", () => {
  const written: string[] = [];
  const stream = (isTerminal: boolean) => ({
    writeSync: (bytes: Uint8Array) => (written.push(new TextDecoder().decode(bytes)), bytes.length),
    isTerminal: () => isTerminal,
  });
  const name = "a\x1b[31m.txt";
  writeLine(stream(false), name);
  new Progress(stream(false)).line(name);
  const progress = new Progress(stream(true));
  progress.bar(0.5, name);
  progress.line(name);
  assertEquals(written.map((text) => text.replaceAll("\r\x1b[K", "").includes("\x1b")), Array(5).fill(false));
  assertEquals(written.filter((text) => text.includes("a\\u001b[31m.txt")).length, 4);
});
