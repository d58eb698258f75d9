import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { listFolder, runTask, withFolder } from "../commands/testing.ts";
import { RUNS_SLOW, testSlow } from "../../lib/testing.ts";
import { openCpu } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors.ts";
import { attentionInputs } from "./bench/attention.ts";
import { measureModel } from "./bench/lengths.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { compare, explainPeak } from "./bench.ts";
import { linearRaces } from "./bench/linear.ts";
import { longDecodeRace } from "./bench/long_decode.ts";
import { type BenchCase, expectClose, fractionOfPeak, median, race, rowOf } from "./bench/run.ts";
import { scanRace } from "./bench/scan.ts";

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

Deno.test("fractionOfPeak() holds a time against the peak that binds", () => {
  assertEquals(fractionOfPeak(BASE, 1000, { flopsPerSecond: 4e9, bytesPerSecond: 100e9 }), 0.5);
  assertEquals(fractionOfPeak(BASE, 1000, { flopsPerSecond: 400e9, bytesPerSecond: 4e9 }), 0.25);
  const { gflops, gbps, peak, recent } = rowOf(BASE, 500, 0.75);
  assertEquals([gflops, gbps, peak, recent], [4, 2, 0.75, null]);
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
  let turn = 0; // a slow turn is compared with the machine's speed at that time
  const peak = () => ({ flopsPerSecond: 1e12 * ++turn, bytesPerSecond: 1e15 });
  const rows = await race([benchCase("a", 60), benchCase("b", 5)], peak);
  assertEquals(rows.map(({ timeMs }) => timeMs), [60, 5]);
  assertEquals(rows.map(({ peak }) => peak), [2e9 / 4e12 / 0.06, 2e9 / 4e12 / 0.005]);
  assertEquals([turn, log.slice(0, 6)], [7, ["verify a", "verify b", "a", "b", "a", "b"]]);
  assertEquals(log.filter((name) => name === "a").length, log.filter((name) => name === "b").length);
  const wrong = { ...BASE, verify: () => expectClose("a sum", [1, NaN], [1, 2], 1e-3) };
  let error: unknown;
  await race([benchCase("c", 1), wrong], peak).catch((e) => error = e);
  assert(error instanceof Error && error.message.includes("found NaN at index 1"));
  assert(!log.includes("c"));
});

Deno.test("expectClose() takes what is within its tolerance alone", () => {
  expectClose("it", [1], [1.0009], 1e-3);
  assertThrows(() => expectClose("it", [1], [1.0011], 1e-3), Error, "Cannot trust it");
  assertThrows(() => expectClose("it", [1], [1, 2], 1e-3), Error, "found 1 numbers");
});

Deno.test("linearRaces() and scanRace() count what is computed and moved, and trust no other result", async () => {
  const backend = await openCpu({ threads: 1 });
  const [first, second, third] = linearRaces(backend, "cpu");
  for (
    const [benchCase, rows, phase] of [
      [first![0]!, 1, "decode"],
      [second![0]!, 8, "decode"],
      [third![0]!, 512, "prefill"],
    ] as const
  ) {
    assertEquals([benchCase.phase, benchCase.flops], [phase, 2 * rows * 576 * 576]);
    assertEquals(benchCase.bytes, 4 * (576 * 576 + rows * (576 + 576)));
    benchCase.verify();
  }
  const wrong = (op: "linear" | "kvFilterScan", call: (...args: never[]) => void) =>
    new Proxy(backend, {
      get(target, name) {
        const value = name === op ? call : Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  const silent = wrong("linear", () => {});
  assertThrows(
    () => [...linearRaces(silent, "cpu").take(2)].at(-1)![0]!.verify(),
    Error,
    "Cannot trust linear",
  );

  for (const [phase, tokens] of [["prefill", 4096], ["decode", 1]] as const) {
    const [benchCase] = scanRace(backend, "cpu", phase), elements = 2 * tokens * 3 * 64; // 3 heads of 64, K and V
    assertEquals([benchCase!.flops, benchCase!.bytes], [9 * elements, 4 * elements]);
    benchCase!.verify();
    const none = scanRace(wrong("kvFilterScan", () => {}), "cpu", phase)[0]!;
    assertThrows(() => none.verify(), Error, "Cannot trust the filter");
  }
});

Deno.test("explainPeak() says how a kernel can be above the peak, where one is", () => {
  const rows = [0.5, 1].map((peak) => ({ peak }) as Parameters<typeof explainPeak>[0][number]);
  assertEquals(explainPeak(rows), []);
  const [line] = explainPeak([...rows, { ...rows[0]!, peak: 1.01 }]);
  assertStringIncludes(line!, "stays in a cache");
});

Deno.test("compare() says what skipping saves, and how dense attention stands beside PyTorch's best", () => {
  const attention = { ...rowOf(BASE, 8, 1), op: "filtered_attention" };
  const rows = [
    attention,
    { ...attention, skip: 0.5, recent: 16, timeMs: 5 },
    { ...attention, impl: "torch flash", timeMs: 10 },
    { ...attention, impl: "torch math", timeMs: 20 },
    { ...attention, op: "linear", timeMs: 1 },
    { ...attention, shape: "T=2", skip: 0.5, timeMs: 1 },
  ];
  assertEquals([...compare(rows)], [
    "prefill: 0.625 of the full model at 0.5 skipped, recent 16; dense at 1.25 times PyTorch's speed",
  ]);
  assertEquals([...compare(rows.slice(1))], []);
});

Deno.test("decode over a long cache counts its bytes, and is held to the reference", async () => {
  using backend = await openCpu({ threads: 2 });
  const cases = longDecodeRace(backend, "cpu", attentionInputs(), 2);
  for (const benchCase of cases) await benchCase.verify();
  const row = 2 * 3 * 64;
  assertEquals(cases.map(({ dtype, bytes }) => [dtype, bytes]), [["f32", 8192 * row * 4], [
    "bf16",
    8192 * row * 2,
  ]]);
  backend.attention = () => {};
  const [broken] = longDecodeRace(backend, "cpu", attentionInputs(), 2);
  await assertRejects(async () => await broken!.verify(), Error, "Cannot trust decode over 8192 rows of f32");
});

Deno.test("deno task bench refuses what it does not know, in one line", async () => {
  for (
    const [args, says] of [
      [["--thread", "2"], 'the nearest is "--threads"'],
      [["--threads", "0"], "expected an integer from 1 to 1024"],
      [["--only", "tea"], "expected one of attention, filter, linear, lengths"],
      [["--out", `${import.meta.dirname}/bench.ts/x`], "Cannot write to"],
      [["--lengths", "12,none"], "Cannot use --lengths"],
      [["tea"], "expected only flags"],
      [["--text", "no/such.txt"], 'Cannot read "no/such.txt": there is no such file'],
      [["--lengths", "999999"], "Cannot measure 999999 tokens and 8 after them: built-in prose has "],
      [["--model", "no/such.gguf"], 'Cannot load model "no/such.gguf": found no such file'],
    ] as const
  ) {
    const { code, stderr } = await runTask("bench", ...args), text = stderr.trim();
    assertEquals(code, 2);
    assert(text.includes(says) && !text.includes("\n"), text);
  }
});

Deno.test("measureModel() reads the asked text, and says how to go further than it reaches", () =>
  withFolder(async (folder) => {
    const text = `${folder}/short.txt`,
      backend = await openCpu({ threads: 1 }),
      progress = new Progress(undefined);
    Deno.writeTextFileSync(text, "a river runs ".repeat(20));
    const rows = await measureModel(backend, progress, { model: "tiny", lengths: [16], text });
    assertEquals([rows.length, rows[0]!.tokens], [7, 16]);
    await assertRejects(
      () => measureModel(backend, progress, { model: "tiny", lengths: [16, 4096], text }),
      UsageError,
      "short.txt has",
    );
  }));

testSlow("deno task bench --out writes what it measured, and its report", () =>
  withFolder(async (folder) => {
    const longest = RUNS_SLOW ? 1024 : 512;
    const { code, stdout, stderr } = await runTask(
      "bench",
      ...["--only", "lengths", "--lengths", `256,${longest}`],
      "--json",
      "--out",
      folder,
    );
    assertEquals([code, /PyTorch|linear|attention/.test(stderr)], [0, false], stderr);
    assertEquals(listFolder(folder), ["bench.html", "bench.json"]);
    const report = JSON.parse(stdout);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/bench.json`)), report);
    const { lengths, kernels, peak } = report;
    assertEquals([kernels, peak.flopsPerSecond > 0], [[], true]);
    const last = lengths.filter(({ tokens }: { tokens: number }) => tokens === longest);
    assertEquals(last.map(({ name }: { name: string }) => name), [
      "dense",
      "learned, half skipped",
      "paper, half skipped",
      "keys, half evicted",
      "keys, 75% evicted",
      "local, half skipped and half evicted",
      "retrieval, 75% dropped",
    ]);
    assert(last[1].kvBytesHeld < 0.65 * last[0].kvBytesHeld && last[0].kvBytesHeld === last[0].kvBytesDense);
    // Memory of dropped keys and values is given back.
    assert(last[3].kvBytesAllocated < 0.7 * last[0].kvBytesDense);
    assert(last[4].kvBytesAllocated < 0.5 * last[0].kvBytesDense);
  }));
