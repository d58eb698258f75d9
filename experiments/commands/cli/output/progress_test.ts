import { assertEquals, assertStringIncludes } from "@std/assert";
import { formatDuration, Progress } from "./progress.ts";
import { terminalColumns } from "./terminal.ts";

function makeStream(terminal: boolean) {
  let text = "";
  const stream = {
    writeSync: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes), bytes.length),
    isTerminal: () => terminal,
  };
  return { stream, text: () => text };
}

function raise(message: string): never {
  throw new Error(message);
}

Deno.test("Progress draws a bar with the time left on a terminal", () => {
  const { stream, text } = makeStream(true);
  let now = 1000;
  const progress = new Progress(stream, () => now);
  progress.start();
  now = 11_000;
  progress.bar(0.25, "6/24 trials");
  assertStringIncludes(text(), "[###.........] 25%  30 s left  6/24 trials");
  progress.line("done");
  assertEquals(text().endsWith("\r\x1b[Kdone\n"), true);
});

Deno.test("Progress keeps the bar and its lines within the terminal, and cuts no word", () => {
  const { consoleSize } = Deno;
  try {
    for (
      const [size, bar] of [
        [() => ({ columns: 50, rows: 9 }), 12],
        [() => ({ columns: 99, rows: 9 }), 12],
        [() => ({ columns: 100, rows: 9 }), 24],
        [() => raise("no terminal"), 12],
      ] as const
    ) {
      Deno.consoleSize = size;
      const { stream, text } = makeStream(true), progress = new Progress(stream);
      progress.bar(0.5, "a label ".repeat(20));
      const [, drawn] = text().split("\r\x1b[K");
      assertEquals(drawn!.indexOf("]") - 1, bar);
      assertEquals(drawn!.replace(/^\S+ 50% {2}/, "").replace(/^(a label )*(a|a label)…$/, ""), "", drawn);
      assertEquals(drawn!.length <= terminalColumns() - 1 && drawn!.length >= terminalColumns() - 9, true);
      const fits = "x".repeat(terminalColumns() - 1 - `[${"#".repeat(bar)}] 50%  `.length);
      progress.bar(0.5, fits);
      assertEquals(text().split("\r\x1b[K").at(-1)!.endsWith(fits), true, "a label that fits is whole");
      progress.line("word ".repeat(30).trim());
      assertEquals(
        text().split("\n").every((line) => line.split("\x1b[K").at(-1)!.length <= terminalColumns()),
        true,
      );
    }
  } finally {
    Deno.consoleSize = consoleSize;
  }
});

Deno.test("Progress writes plain lines elsewhere, and nothing when quiet", () => {
  const { stream, text } = makeStream(false);
  const progress = new Progress(stream);
  progress.start();
  progress.bar(0.5, "half");
  progress.line("one trial");
  assertEquals(text(), "one trial\n");
  const quiet = new Progress(undefined);
  quiet.bar(0.5, "half");
  quiet.line("one trial");
});

Deno.test("Progress stops writing when there is no reader any more, and the work goes on", () => {
  let writes = 0;
  const closed = {
    writeSync(): number {
      writes++;
      throw new Deno.errors.BrokenPipe("Broken pipe");
    },
    isTerminal: () => true,
  };
  const progress = new Progress(closed);
  progress.line("one");
  progress.bar(0.5, "half");
  progress.line("two");
  progress.clear();
  assertEquals(writes, 1);
});

Deno.test("formatDuration() chooses its units", () => {
  const words = [7600, 59_400, 60_000, 200_000, 3_599_000, 3_600_000, 7_559_000].map(formatDuration);
  assertEquals(words, ["8 s", "59 s", "1 min 0 s", "3 min 20 s", "59 min 59 s", "1 h 0 min", "2 h 5 min"]);
});

Deno.test("step() writes a line at each tenth where there is no terminal, and redraws the bar where there is one", () => {
  for (const isTerminal of [false, true]) {
    const { stream, text } = makeStream(isTerminal);
    let now = 0;
    const progress = new Progress(stream, () => now);
    progress.step(0, "begun"); // before the clock: nothing is known of the time
    progress.start();
    for (const tenths of [0.5, 1, 1.9, 2]) progress.step(tenths / 10, `${now = 1000 * tenths} ms`);
    if (isTerminal) assertEquals(text().split("\r").length, 6);
    else assertEquals(text(), "begun\n1000 ms, 9 s left\n2000 ms, 8 s left\n");
  }
});

Deno.test("Progress ticks while work cannot say how far it is, and only on a terminal", () => {
  let now = 1000, tick: (() => void) | undefined;
  const { setInterval, clearInterval } = globalThis;
  globalThis.setInterval = ((act: () => void) => (tick = act, 0)) as unknown as typeof setInterval;
  globalThis.clearInterval = () => tick = undefined;
  const { stream, text } = makeStream(true), progress = new Progress(stream, () => now);
  const ticking = progress.tick("Building");
  assertEquals(text(), "\r\x1b[KBuilding: 0 s");
  now = 3000;
  tick!();
  progress.line("compiled one");
  assertStringIncludes(text(), "Building: 2 s\r\x1b[Kcompiled one\n");
  ticking[Symbol.dispose]();
  assertEquals(tick, undefined);
  const plain = makeStream(false);
  new Progress(plain.stream).tick("Building");
  tick!();
  assertEquals(plain.text(), "");
  Object.assign(globalThis, { setInterval, clearInterval });
});
