/** The clock, the cases on the CPU, and the command. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { listFolder, runTask, withFolder } from "../../commands/testing.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { RUNS_SLOW, testSlow } from "../../../lib/testing.ts";
import { type BenchReport, tabulatePeers } from "../../../lib/plot/mod.ts";
import { openCpu } from "../../../ffi/mod.ts";
import { attentionCase } from "./attention.ts";
import { cpuDevice, cpuRaces } from "./cpu.ts";
import { scanCase } from "./filter.ts";
import { linearCase } from "./linear.ts";
import { runRaces } from "./main.ts";
import { type BenchCase, type Device, fractionOfPeak, median, race } from "./run.ts";
import { expectClose } from "./tensors.ts";

const BASE: BenchCase = {
  ...{
    op: "op",
    impl: "impl",
    phase: "prefill",
    shape: "T=1",
    dtype: "f32",
    skip: 0,
    flops: 2e9,
    bytes: 1e9,
  },
  verify: () => {},
  run: () => {},
};

/** A device whose clock gives the times that cases have. */
function fakeDevice(log: string[]): Device {
  let turn = 0; // a slow turn is compared with the machine's speed at that time
  return {
    ...{ backend: undefined!, impl: "fake", turns: 7, facts: {} },
    clock: ({ time }) => time!,
    peak() {
      const peak = { flopsPerSecond: 1e12 * ++turn, bytesPerSecond: 1e15 };
      log.push(`peak ${turn}`);
      return () => peak;
    },
    best: () => ({ flopsPerSecond: 1, bytesPerSecond: 1 }),
  };
}

const fakeCase = (log: string[], name: string, ms: number): BenchCase => ({
  ...BASE,
  verify: () => void log.push(`verify ${name}`),
  time: () => (log.push(name), Promise.resolve(ms)),
});

Deno.test("median() and fractionOfPeak() take the middle, and the peak that binds", () => {
  assertEquals([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5]);
  assertEquals(fractionOfPeak(BASE, 1000, { flopsPerSecond: 4e9, bytesPerSecond: 100e9 }), 0.5);
  assertEquals(fractionOfPeak(BASE, 1000, { flopsPerSecond: 400e9, bytesPerSecond: 4e9 }), 0.25);
});

Deno.test("race() verifies all before it times any, and lets cases take turns", async () => {
  const log: string[] = [], [a, b] = [fakeCase(log, "a", 60), fakeCase(log, "b", 5)];
  const rows = await race(fakeDevice(log), [a, b]);
  assertEquals(rows.map(({ timeMs, spreadMs, recent }) => [timeMs, spreadMs, recent]), [[60, 0, null], [
    5,
    0,
    null,
  ]]);
  assertEquals(rows.map(({ gflops, gbps }) => [gflops, gbps]), [[2 / 0.06, 1 / 0.06], [400, 200]]);
  assertEquals(rows.map(({ peak }) => peak), [2e9 / 4e12 / 0.06, 2e9 / 4e12 / 0.005]);
  const turns = Array.from({ length: 7 }, (_, i) => [`peak ${i + 1}`, "a", "b"]).flat();
  assertEquals(log, ["verify a", "verify b", ...turns]);
  const wrong = { ...BASE, verify: () => expectClose("a sum", [1, NaN], [1, 2], 1e-3) }, told: string[] = [];
  await assertRejects(() => race(fakeDevice(told), [wrong, a]), Error, "found NaN at index 1");
  assertEquals(told, []);
});

Deno.test("runRaces() tells of a race that fails, and goes on; what is known is told after each race", async () => {
  const told: string[] = [], known: [number, string[]][] = [];
  const refuse = (why: string): never => {
    throw new Error(why);
  };
  const races = [
    { title: "one", make: () => [fakeCase([], "a", 1)] },
    { title: "two", make: () => refuse("no room") },
    { title: "three", make: () => [fakeCase([], "b", 1), fakeCase([], "c", 1)] },
  ];
  await runRaces(fakeDevice([]), races, {
    line: (text) => told.push(text),
    onRows: (rows, failures) =>
      Promise.resolve(void known.push([rows.length, failures.map(({ error }) => error)])),
  });
  assertEquals(told, ["[1 of 3] one", "[2 of 3] two", "failed: two: no room", "[3 of 3] three"]);
  assertEquals(known, [[1, []], [1, ["no room"]], [3, ["no room"]]]);
});

Deno.test("cases of the CPU count what is computed and moved, and trust no other result", async () => {
  using backend = await openCpu({ threads: 1 });
  const idle = (op: "linear" | "kvFilterScan" | "attention") =>
    new Proxy(backend, {
      get(target, name) {
        if (name === op) return (_: unknown, __: unknown, ___: unknown, at = 0, count = 0) => at + count;
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  for (const dtype of ["f32", "bf16", "q8_0", "q4_1", "q4_k"] as const) {
    for (const [rows, phase] of [[1, "decode"], [64, "decode"], [65, "prefill"]] as const) {
      const plan = { dtype, n: 70, k: 256, rows }, product = linearCase(backend, "cpu", plan);
      product.verify();
      assertEquals([product.phase, product.flops], [phase, 2 * rows * 70 * 256]);
      if (dtype === "f32") assertEquals(product.bytes, 4 * (70 * 256 + rows * (70 + 256)));
      assertThrows(() => linearCase(idle("linear"), "cpu", plan).verify(), Error, "Cannot trust linear");
    }
  }
  const layer = { numKvHeads: 3, headDim: 64, hiddenSize: 64 };
  for (const [tokens, start] of [[300, 0], [1, 300]] as const) {
    const plan = { impl: "cpu", tokens, start, chunk: 512 }, scan = scanCase(backend, layer, plan);
    scan.verify();
    const elements = 2 * tokens * 3 * 64; // 3 heads of 64, keys and values
    assertEquals([scan.flops, scan.bytes], [9 * elements, 4 * elements]);
    if (start > 0) continue;
    assertThrows(
      () => scanCase(idle("kvFilterScan"), layer, plan).verify(),
      Error,
      "Cannot trust kv_filter_scan",
    );
  }
  const sizes = { numHeads: 4, numKvHeads: 2, headDim: 32 };
  for (const phase of ["prefill", "decode"] as const) {
    for (const dtype of ["f32", "bf16"] as const) {
      for (const how of [{}, { skip: 0.5 }, { skip: 0.5, recent: 16 }]) {
        const plan = { impl: "cpu", phase, dtype, tokens: 200, ...how };
        attentionCase(backend, sizes, plan).verify();
        const broken = attentionCase(idle("attention"), sizes, plan);
        assertThrows(() => broken.verify(), Error, `Cannot trust ${phase} with`);
      }
    }
  }
  const decode = attentionCase(backend, sizes, { impl: "cpu", phase: "decode", dtype: "bf16", tokens: 200 });
  assertEquals([decode.flops, decode.bytes], [4 * 32 * 4 * 200, 4 * 2 * 4 * 32 + 2 * 2 * 200 * 2 * 32]);
});

Deno.test("the CPU's races have titles and are made late; its clock repeats what is short", async () => {
  using backend = await openCpu({ threads: 1 });
  const device = cpuDevice(backend, "base");
  const titles = ["attention", "filter", "linear", "steps"].map((part) => cpuRaces(device, part).length);
  assertEquals(titles, [3, 2, 6, 0]);
  let runs = 0;
  const clock = device.clock({ run: () => void runs++ });
  await clock();
  assertEquals(runs, 1001);
});

Deno.test("deno task bench refuses what it does not know, in one line", async () => {
  for (
    const [args, says] of [
      [["--thread", "2"], 'the nearest is "--threads"'],
      [["--threads", "0"], "expected an integer from 1 to 1024"],
      [["--only", "tea"], "expected one of attention, filter, linear, steps, lengths"],
      [["--only", "steps"], "Cannot use --only steps without --gpu"],
      [["--gpu", "--level", "avx2"], "Cannot use --level with --gpu"],
      [["--peers", "--only", "linear"], "Cannot use --only with --peers"],
      [["--turns", "3"], "Cannot use --turns without --peers"],
      [["--out", `${import.meta.dirname}/main.ts/x`], "Cannot write to"],
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

testSlow("deno task bench --out writes what it measured, and its report", () =>
  withFolder(async (folder) => {
    const longest = RUNS_SLOW ? 1024 : 512, lengthsOf = `256,${longest}`;
    const args = ["--only", "lengths", "--lengths", lengthsOf, "--json", "--out", folder];
    const { code, stdout, stderr } = await runTask("bench", ...args);
    assertEquals([code, /PyTorch|linear|attention/.test(stderr)], [0, false], stderr);
    assertEquals(listFolder(folder), ["bench.html", "bench.json"]);
    const report = JSON.parse(stdout);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/bench.json`)), report);
    const { lengths, kernels, peak } = report;
    assertEquals([kernels, peak.flopsPerSecond > 0], [[], true]);
    const last = lengths.filter(({ tokens }: { tokens: number }) => tokens === longest);
    assertEquals(last.map(({ name }: { name: string }) => name).slice(0, 2), [
      "dense",
      "learned, half skipped",
    ]);
    assert(last[1].kvBytesHeld < 0.65 * last[0].kvBytesHeld && last[0].kvBytesHeld === last[0].kvBytesDense);
    // Memory of dropped keys and values is given back.
    assert(last[3].kvBytesAllocated < 0.7 * last[0].kvBytesDense);
    assert(last[4].kvBytesAllocated < 0.5 * last[0].kvBytesDense);
  }));

Deno.test("docs/explain/performance.md shows the committed results of bench --peers", async () => {
  const page = await Deno.readTextFile(new URL("../../../docs/explain/performance.md", import.meta.url));
  const names = Array.from(Deno.readDirSync(new URL("results/", import.meta.url)), ({ name }) => name);
  assert(names.length > 0);
  for (const name of names) {
    const text = await Deno.readTextFile(new URL(`results/${name}`, import.meta.url));
    const { peers }: BenchReport = JSON.parse(text);
    assertStringIncludes(page, formatMarkdown(tabulatePeers(peers!)));
  }
});
