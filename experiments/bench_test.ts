import { assert, assertEquals, assertThrows } from "@std/assert";
import { listFolder, runTask, withFolder } from "./testing.ts";
import { type BenchCase, expectClose, median, race, rowOf } from "./bench/run.ts";

const BASE: BenchCase = {
  op: "op",
  impl: "impl",
  phase: "prefill",
  shape: "T=1",
  dtype: "f32",
  skip: 0,
  flops: 2e9,
  bytes: 1e9,
  verify: () => {},
  time: () => 0,
};

Deno.test("median() takes the middle", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
});

Deno.test("rowOf() holds a time against the roof that binds", () => {
  const compute = rowOf(BASE, 1000, { flopsPerSecond: 4e9, bytesPerSecond: 100e9 });
  assertEquals([compute.gflops, compute.gbps, compute.roof], [2, 1, 0.5]);
  const memory = rowOf(BASE, 1000, { flopsPerSecond: 400e9, bytesPerSecond: 4e9 });
  assertEquals([memory.roof, memory.recent], [0.25, null]);
});

Deno.test("race() verifies all before it times any, and lets cases take turns", async () => {
  const log: string[] = [];
  const benchCase = (name: string, ms: number): BenchCase => ({
    ...BASE,
    verify: () => void log.push(`verify ${name}`),
    time: (repeats) => {
      log.push(name);
      return ms * repeats;
    },
  });
  assertEquals(await race([benchCase("a", 60), benchCase("b", 5)]), [60, 5]);
  assertEquals(log.slice(0, 6), ["verify a", "verify b", "a", "b", "a", "b"]);
  assertEquals(log.filter((name) => name === "a").length, log.filter((name) => name === "b").length);
  const wrong = { ...BASE, verify: () => expectClose("a sum", [1, NaN], [1, 2], 1e-3) };
  let error: unknown;
  await race([benchCase("c", 1), wrong]).catch((e) => error = e);
  assert(error instanceof Error && error.message.includes("found NaN at index 1"));
  assert(!log.includes("c"));
});

Deno.test("expectClose() takes what is within its tolerance alone", () => {
  expectClose("it", [1], [1.0009], 1e-3);
  assertThrows(() => expectClose("it", [1], [1.0011], 1e-3), Error, "Cannot trust it");
  assertThrows(() => expectClose("it", [1], [1, 2], 1e-3), Error, "found 1 numbers");
});

Deno.test("deno task bench refuses what it does not know, in one line", async () => {
  const bench = `${import.meta.dirname}/bench.ts`;
  const flags = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", `${import.meta.dirname}/../.std/flags.ts`],
  });
  const map = new TextDecoder().decode((await flags.output()).stdout).trim().split(" ").filter((s) =>
    s !== ""
  );
  for (
    const [args, says] of [
      [["--thread", "2"], 'the nearest is "--threads"'],
      [["--threads", "0"], "expected an integer from 1 to 1024"],
      [["--only", "tea"], "expected one of attention, filter, linear, lengths"],
      [["--out", `${import.meta.dirname}/bench.ts/x`], "Cannot write to"],
      [["tea"], "expected flags alone"],
    ] as const
  ) {
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", ...map, bench, ...args],
      cwd: new URL("..", import.meta.url),
    });
    const { code, stderr } = await command.output();
    const text = new TextDecoder().decode(stderr).trim();
    assertEquals(code, 2);
    assert(text.includes(says) && !text.includes("\n"), text);
  }
});

Deno.test("deno task bench --out writes what it measured, and its report", () =>
  withFolder(async (folder) => {
    const { code, stdout, stderr } = await runTask(
      "bench",
      "--only",
      "lengths",
      "--json",
      "--quiet",
      "--out",
      folder,
    );
    assertEquals([code, stderr], [0, ""]);
    assertEquals(listFolder(folder), ["bench.html", "bench.json"]);
    const report = JSON.parse(stdout);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/bench.json`)), report);
    const { lengths, kernels, roof } = report;
    assertEquals([kernels, roof.flopsPerSecond > 0], [[], true]);
    const last = lengths.filter(({ tokens }: { tokens: number }) => tokens === 2048);
    assertEquals(last.map(({ name }: { name: string }) => name), [
      "dense",
      "learned, half skipped",
      "variance, half skipped",
    ]);
    assert(last[1].kvBytesHeld < 0.6 * last[0].kvBytesHeld && last[0].kvBytesHeld === last[0].kvBytesDense);
  }));
