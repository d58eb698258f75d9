/** `deno task soak`: samples of a run, and verdicts on them. */
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { IN_SLOW_TIER, NEEDS_LINUX, unless } from "../../lib/testing.ts";
import { runProcess, runTask, withFolder } from "../commands/testing.ts";
import { lookAt } from "./soak.ts";
import { evaluate, fitLine, plotSamples, type Sample, type Verdict } from "./soak/flat.ts";

/** An hour of samples, one a minute, of numbers that follow from the hour. */
const hour = (of: (hours: number, i: number) => Partial<Sample>): Sample[] =>
  Array.from(
    { length: 60 },
    (_, i) => ({ seconds: 60 * i, rss: 3e8, handles: 20, speed: 100, ...of(i / 60, i) }),
  );
const noise = (i: number) => 4e6 * Math.sin(i * i);

Deno.test("fitLine() gives a slope, and an interval that has the true one", () => {
  const x = Array.from({ length: 50 }, (_, i) => i / 10);
  assertAlmostEquals(fitLine(x, x.map((own) => 3 * own - 7)).slope, 3, 1e-12);
  const { slope, margin } = fitLine(x, x.map((own, i) => 3 * own + Math.sin(i * i)));
  assert(Math.abs(slope - 3) < margin && margin < 0.5, `${slope}, ${margin}`);
});

Deno.test("evaluate() accepts a sawtooth of few teeth, wherever it ends", () => {
  for (let ends = 0; ends < 20; ends++) {
    const teeth = hour((_, i) => ({ rss: 3e8 + 4e6 * ((i + ends) % 20) }));
    const { isFlat, slope, margin } = evaluate("own", teeth);
    assert(isFlat, `${ends}: ${slope}, ${margin}`);
  }
});

Deno.test("evaluate() accepts growth in the warm-up, and noise", () => {
  const filling = hour((hours, i) => ({ rss: 3e8 + 1e8 * Math.min(hours * 4, 1) + noise(i) }));
  const { isFlat, slope, margin } = evaluate("own", filling);
  assert(isFlat && Math.abs(slope) <= margin, `${slope}, ${margin}`);
});

Deno.test("evaluate() reports memory that grows, handles that stay open, lost speed, and a slow start", () => {
  const grows = evaluate("own", hour((hours, i) => ({ rss: 3e8 + 3e7 * hours + noise(i) })));
  assert(!grows.isFlat && Math.abs(grows.slope - 30) < grows.margin, `${grows.slope}, ${grows.margin}`);
  const leaks = evaluate("own", hour((_, i) => ({ handles: 20 + Math.floor(i / 10) })));
  assertEquals([leaks.isFlat, leaks.handles], [false, [22, 25]]);
  const slows = evaluate("own", hour((hours) => ({ speed: 100 - 90 * hours })));
  assert(!slows.isFlat && slows.speed < 1 / 3);
  const late = evaluate("own", hour((hours) => ({ speed: 10 + 90 * hours })));
  assertEquals([late.isSteady, late.isFlat, slows.isSteady], [false, false, true]);
  assertThrows(
    () => evaluate("own", hour(() => ({})).slice(0, 5)),
    RangeError,
    "found 5 samples, expected 6",
  );
});

Deno.test("the page of a soak shows each process in each of three plots", () => {
  const figures = plotSamples(new Map([["this process", hour(() => ({}))], ["server", hour(() => ({}))]]));
  assertEquals(figures.map(({ title }) => title), ["Resident memory", "Open handles", "Speed"]);
  for (const { data } of figures) assertEquals(data.map(({ name }) => name), ["this process", "server"]);
});

Deno.test({
  ...unless(NEEDS_LINUX, "lookAt() counts the memory and the handles of a process"),
  fn: async () => {
    const looks = [];
    for (const opens of ["", "exec 9</dev/null; "]) {
      const child = new Deno.Command("sh", {
        args: ["-c", `${opens}echo ready; read line`],
        ...{ stdin: "piped", stdout: "piped" } as const,
      }).spawn();
      await child.stdout.getReader().read(); // its files are open now
      looks.push(await lookAt(child.pid));
      await child.stdin.close();
      await child.status;
    }
    const [few, more] = looks as [typeof looks[0], typeof looks[0]];
    assertEquals(more!.handles, few!.handles + 1);
    assert(few!.rss > 1e5 && few!.rss < 1e8, `${few!.rss}`);
  },
});

Deno.test({
  ...unless(NEEDS_LINUX || IN_SLOW_TIER, "soak runs for 5 minutes, and keeps samples, plots and verdicts"),
  fn: () =>
    withFolder(async (folder) => {
      const { code, stdout, stderr } = await runProcess("soak", "--minutes", "5", "--out", folder);
      assertMatch(
        stdout,
        /^\w+ +this process: .*\n\w+ +server: .*\n[1-9]\d* sweeps with killed workers, 0 that lost/,
        stderr,
      );
      const { verdicts, samples } = JSON.parse(await Deno.readTextFile(`${folder}/soak.json`));
      // Five minutes next to other tests do not show whether memory and speed are flat; the verdicts must follow from them.
      assertEquals(verdicts.length, 2);
      assertEquals(code, verdicts.every(({ isFlat }: Verdict) => isFlat) ? 0 : 1, stdout);
      for (const { name, handles: [first, last] } of verdicts as Verdict[]) {
        assert(last - first <= 8, `${name}: ${first} handles, then ${last}`);
      }
      assert(samples["server"].length >= 20);
      assertMatch(await Deno.readTextFile(`${folder}/soak.html`), /Resident memory/);
    }),
});

Deno.test("soak refuses a run that is too short", async () => {
  const { code, stdout, stderr } = await runTask("soak", "--minutes", "1");
  assertEquals([code, stdout], [2, ""]);
  assertMatch(stderr, /^Cannot use --minutes 1: expected .*5.*\n$/);
});
