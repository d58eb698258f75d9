import { assertEquals } from "@std/assert";
import type { Progress } from "../output/progress.ts";
import { tellSilence } from "./jobs.ts";

Deno.test("tellSilence() says once who has a trial, and until when", () => {
  const lines: string[] = [];
  const tell = tellSilence({ line: (text: string) => lines.push(text) } as unknown as Progress);
  const held = { number: 3, owner: "7-0a1b2c3d@host", untilMs: Date.UTC(2030, 0, 2), seenMs: 0 };
  for (const trials of [[], [held], [held]]) tell(trials);
  assertEquals(lines, [
    "Waits for trial 3: worker 7-0a1b2c3d@host gives no sign, and has it until 2030-01-02T00:00:00.000Z " +
    "(if it has ended, deno task study repair makes a study in which the trial waits)",
  ]);
});
