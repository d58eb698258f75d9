/** The races of `bench:gpu` on the emulator, with small sizes: every benchCase verifies, and every row is whole. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { openEmulated, testEmulated } from "../../ffi/cuda/testing.ts";
import type { BatchOps } from "../../lib/batch_ops.ts";
import { hostTensor } from "../../lib/tensor.ts";
import { renderSite } from "../../lib/plot/mod.ts";
import { benchGpu, describeRows, documentOf, type GpuBenchSizes } from "./bench_gpu.ts";
import { readBars } from "./bench_gpu/bars.ts";
import { decodeCase } from "./bench_gpu/attention.ts";
import { f32Rate, floorOf, type Gpu, raceOnDevice, tensorRate, TURNS } from "./bench_gpu/device.ts";
import { stepCase } from "./bench_gpu/filter.ts";
import { keyStepCase } from "./bench_gpu/keys.ts";
import { randomModel } from "./bench_gpu/layer.ts";
import { linearCases } from "./bench_gpu/linear.ts";
import { type GpuRow, gpuRow } from "./bench_gpu/row.ts";
import { timeTorch } from "./bench_gpu/torch.ts";
import { readEntry } from "../commands/cli/output/result_files.ts";

const SIZES: GpuBenchSizes = {
  attention: { numHeads: 4, numKvHeads: 2, headDim: 32 },
  dtypes: ["bf16"],
  decode: { batch: 2, rows: 64 },
  prefill: [64],
  linear: { n: 70, k: 256, rows: [1, 72] },
  step: { batch: 2, hiddenSize: 64 },
  scan: { tokens: 48, chunks: [16, 48] },
  model: {
    architecture: "llama",
    numLayers: 1,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 32,
    hiddenSize: 64,
    intermediateSize: 64,
    vocabSize: 50,
    rope: { theta: 10000 },
    rmsNormEps: 1e-5,
    contextLength: 64,
    tieWordEmbeddings: false,
  },
  modelBatch: 2,
  turns: 2,
};

async function emulatedGpu(): Promise<Gpu> {
  const { backend } = await openEmulated();
  const device = {
    ordinal: 0,
    name: "emulated",
    arch: 90,
    numSms: 2,
    memoryBytes: 2 ** 30,
    l2Bytes: 4096,
    clockMHz: 1000,
    exclusive: false,
    readsHost: false,
  };
  return {
    backend,
    device,
    time(work) {
      const start = performance.now();
      work();
      return performance.now() - start;
    },
  };
}

Deno.test("f32Rate() is the nominal rate of an A100, an H100 and an RTX 4090", () => {
  const device = { ordinal: 0, name: "", memoryBytes: 0, l2Bytes: 0, exclusive: false, readsHost: false };
  const rate = (arch: number, numSms: number, clockMHz: number) =>
    (f32Rate({ ...device, arch, numSms, clockMHz }) / 1e12).toFixed(1);
  assertEquals([rate(80, 108, 1410), rate(90, 132, 1980), rate(89, 128, 2520)], ["19.5", "66.9", "82.6"]);
});

Deno.test("tensorRate() is the rate with sums in f32, of which a GeForce has half", () => {
  const device = { ordinal: 0, memoryBytes: 0, l2Bytes: 0, exclusive: false, readsHost: false };
  const rate = (name: string, arch: number, numSms: number, clockMHz: number) =>
    Math.round((tensorRate({ ...device, name, arch, numSms, clockMHz }) ?? NaN) / 1e12);
  // The figures of NVIDIA's data sheets.
  assertEquals(rate("NVIDIA H100 80GB HBM3", 90, 132, 1830), 989);
  assertEquals(rate("NVIDIA GeForce RTX 4090", 89, 128, 2520), 165);
  assertEquals(rate("NVIDIA L40S", 89, 142, 2490), 362);
  assertEquals(rate("another", 70, 80, 1000), NaN);
});

testEmulated("benchGpu() verifies and times every race", async () => {
  const titles: string[] = [];
  const options = { torch: false, onRace: (title: string) => void titles.push(title) };
  const { rows } = await benchGpu(await emulatedGpu(), SIZES, options);
  assertEquals(titles, [
    "decode attention, bf16",
    "prefill attention, 64 tokens, bf16",
    "linear, 1 rows",
    "linear, 72 rows",
    "filter",
    "decode steps",
  ]);
  const count = (op: string) => rows.filter((row) => row.op === op).length;
  assertEquals(
    [
      ...[
        "attention_decode",
        "attention_prefill",
        "linear",
        "kv_filter_step",
        "kv_key_step",
        "kv_filter_scan",
      ],
      "decode_step",
    ].map(count),
    [4, 6, 8, 3, 1, 4, 6], // prefill by mma.sync and by wgmma, steps of dependent launches too
  );
  const near = rows.filter(({ op, shape }) => op === "attention_prefill" && shape.endsWith(" recent=16"));
  assertEquals(near.map(({ skip }) => skip), [0.5, 0.5]);
  for (const row of rows) {
    for (const name of ["timeMs", "gflops", "gbps", "peak"] as const) {
      assert(row[name] > 0, `${row.op} ${name}`);
    }
    assert(row.spreadMs >= 0);
  }
});

testEmulated("documentOf() is a result that reports read, with a bar for all that is meant", async () => {
  const gpu = await emulatedGpu(), folder = await Deno.makeTempDir();
  const found = await benchGpu(gpu, SIZES, { torch: false, onRace: () => {} });
  const environment = {
    version: "1",
    backendDescription: gpu.backend.description,
    deno: "2",
    platform: "emulated",
    startedAt: "2026-01-01T00:00:00Z",
  };
  const written = documentOf(found, environment, { nvcc: "13" });
  // PyTorch was not asked; all else was measured.
  assertEquals(
    written.bars.map(({ what, found, holds }) => [what.split(",")[0], found === null, holds === null]),
    [
      ["decode attention", false, false],
      ["dense prefill of T=64", true, true],
      ["prefill of T=64 with half skipped", false, false],
      ["kv_filter_step", false, false],
      ["kv_key_step behind the step that caches", false, false],
      ["the filter's work in a decode step", false, false],
    ],
  );
  try {
    await Deno.writeTextFile(`${folder}/bench_gpu.json`, JSON.stringify(written));
    const entry = await readEntry(folder, "bench_gpu.json");
    const page = [...renderSite([entry]).values()][1]!;
    for (const text of ["Speed targets", "dense prefill of T=64", "attention_decode", "at most 0.35"]) {
      assert(page.includes(text), text);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("readBars() reads each bar from the rows that tell it", () => {
  const row = (
    op: string,
    impl: string,
    shape: string,
    timeMs: number,
    more: Partial<GpuRow> = {},
  ): GpuRow => ({
    ...{ op, impl, shape, timeMs, phase: "prefill", dtype: "bf16", skip: 0, recent: null },
    ...{ gflops: 1, gbps: 1, peak: 0.5, spreadMs: 0, ...more },
  });
  const heads = "heads=32/8 d=128", [mma, wgmma] = ["tokenfilter", "tokenfilter wgmma"];
  const bars = readBars([
    row("attention_decode", mma, `batch=32 cache=8192 kept=32 ${heads}`, 1, { peak: 0.9 }),
    row("attention_decode", mma, `batch=32 cache=8192 kept=32 ${heads}`, 1, { peak: 0.86, dtype: "f16" }),
    row("attention_decode", mma, `batch=32 cache=4096 kept=32 ${heads}`, 1, { peak: 0.3 }),
    row("attention_decode", mma, `batch=32 cache=8192+16 kept=32 ${heads}`, 1, { peak: 0.2 }),
    row("attention_decode", mma, `batch=32 cache=8192 kept=16 ${heads}`, 1, { peak: 0.1, skip: 0.5 }),
    row("attention_decode", "torch 2 flash", `batch=32 cache=8192 kept=32 ${heads}`, 1, { peak: 0.1 }),
    row("attention_prefill", mma, `T=4096 ${heads}`, 3),
    row("attention_prefill", wgmma, `T=4096 ${heads}`, 2),
    row("attention_prefill", mma, `T=4096 ${heads}`, 0.9, { skip: 0.5 }),
    row("attention_prefill", wgmma, `T=4096 ${heads}`, 0.8, { skip: 0.5 }),
    row("attention_prefill", mma, `T=4096 ${heads} recent=16`, 0.1, { skip: 0.5 }),
    row("attention_prefill", "torch 2 flash", `T=4096 ${heads}`, 1.6),
    row("attention_prefill", mma, `T=8192 ${heads}`, 8),
    row("kv_filter_step", mma, "batch=64 variance", 0.009),
    row("kv_filter_step", mma, "batch=64 variance, of 16 in a graph, warm", 0.0055),
    row("kv_key_step", mma, "batch=64 variance, and the step that caches", 0.0125),
    row("decode_step", mma, "dense: batch=8", 2),
    row("decode_step", mma, "filtered, nothing skipped: batch=8", 2.03),
    row("decode_step", mma, "filtered: batch=8", 1.5, { skip: 0.5 }),
  ]);
  assertEquals(
    bars.map(({ meant, found, holds }) => [meant, found && Number(found.toPrecision(4)), holds]),
    [
      [0.85, 0.86, true],
      [1, 1.25, false],
      [1, null, null],
      [0.35, 0.4, false],
      [0.35, null, null],
      [6, 5.5, true],
      [12, 12.5, false],
      [0.02, 0.015, true],
    ],
  );
  assertEquals(readBars([]).map(({ found, holds }) => found ?? holds), [null, null, null, null]);
});

testEmulated("benchGpu() runs one op alone where it is asked to", async () => {
  const gpu = await emulatedGpu();
  for (const [only, title] of [["decode", "decode attention, bf16"], ["filter", "filter"]] as const) {
    const titles: string[] = [];
    await benchGpu(gpu, SIZES, { only, torch: false, onRace: (title) => void titles.push(title) });
    assertEquals(titles, [title]);
  }
});

Deno.test("gpuRow() holds a prefill in 16 bits against tensor cores where they are known, others against f32", () => {
  const peak = { f32Flops: 1e12, tensorFlops: 100e12, copyBytes: 1e15 };
  const work = {
    op: "op",
    impl: "",
    phase: "prefill",
    shape: "",
    dtype: "bf16",
    skip: 0,
    flops: 1e9,
    bytes: 1,
  } as const;
  const peakOf = (of: Partial<typeof work> | { dtype: "f32" } | { phase: "decode" }, peaks = peak) =>
    gpuRow({ ...work, ...of }, 1, 0.25, peaks).peak.toPrecision(3);
  assertEquals([peakOf({}), peakOf({ dtype: "f32" }), peakOf({ phase: "decode" })], [
    "0.0100",
    "1.00",
    "1.00",
  ]);
  const unknown = gpuRow(work, 1, 0.25, { ...peak, tensorFlops: undefined, copyBytes: 2000 });
  assertEquals([unknown.peak, unknown.spreadMs], [0.5, 0.25]); // only memory
});

testEmulated("timeTorch() asks PyTorch for a job, and says why there are no times", async () => {
  const folder = await Deno.makeTempDir(),
    python = `${folder}/python`,
    before = Deno.env.get("TOKENFILTER_PYTHON");
  const job = { phase: "decode", dtype: "bf16", batch: 2, rows: 64, heads: 4, kv_heads: 2, dim: 32 } as const;
  const answer = async (script: string) => {
    await Deno.writeTextFile(python, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return await timeTorch(await emulatedGpu(), job);
  };
  /** PyTorch's output is zeros, and ours has four elements of a value. */
  const compare = async (ours: number) => {
    const gpu = await emulatedGpu(), tensor = hostTensor("f32", [4], new Float32Array(4).fill(ours));
    const [queries, keys, values, out] = [1, 2, 3, 4].map(() => gpu.backend.upload(tensor));
    return await timeTorch(gpu, job, { queries: queries!, keys: keys!, values: values!, out: out! });
  };
  try {
    Deno.env.set("TOKENFILTER_PYTHON", python);
    const flash = { library: "torch 2.9", backend: "flash", time_ms: 1, spread_ms: 0 };
    const times = { times: [flash], missing: [] };
    assertEquals(await answer(`echo "$2" > ${folder}/asked; echo '${JSON.stringify(times)}'`), times);
    assertEquals(JSON.parse(await Deno.readTextFile(`${folder}/asked`)), { ...job, turns: TURNS });
    assertEquals(await answer(`echo '{"error": "no GPU"}'`), `${python} says: no GPU`);
    const place = `$(echo "$2" | sed 's/.*"folder":"\\([^"]*\\)".*/\\1/')/out`;
    await Deno.writeTextFile(
      python,
      `#!/bin/sh\nhead -c 16 /dev/zero > "${place}"; echo '${JSON.stringify(times)}'\n`,
    );
    assertEquals(await compare(0), times);
    await assertRejects(() => compare(1), Error, "PyTorch's prefill");
    assertEquals(
      await answer("echo first >&2; echo ImportError: torch >&2; exit 1"),
      `${python} says: ImportError: torch`,
    );
    Deno.env.set("TOKENFILTER_PYTHON", `${folder}/none`);
    assertEquals(
      await timeTorch(await emulatedGpu(), job),
      `${folder}/none says: ${folder}/none: found no program of this name`,
    );
  } finally {
    if (before === undefined) Deno.env.delete("TOKENFILTER_PYTHON");
    else Deno.env.set("TOKENFILTER_PYTHON", before);
    await Deno.remove(folder, { recursive: true });
  }
});

testEmulated("benchGpu() races a model beside llama.cpp where its llama-bench is one for CUDA", async () => {
  const gpu = await emulatedGpu(), folder = await Deno.makeTempDir(), bench = `${folder}/llama-bench`;
  const before = Deno.env.get("TOKENFILTER_LLAMA_BENCH");
  const model = {
    ...{ model: randomModel(gpu, SIZES.model), name: "small", path: "/models/small.gguf" },
    ...{ weights: { values: 1000, bytes: 600 }, prefill: 24, decode: 6 },
  };
  const race = async (script: string) => {
    await Deno.writeTextFile(bench, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const told: string[] = [];
    const { rows, failures } = await benchGpu(gpu, SIZES, {
      ...{ only: "model", torch: false, model },
      onRace: (title) => void told.push(title),
    });
    assertEquals([failures, told[0]], [[], "the model small"]);
    assert(rows.every(({ dtype, timeMs }) => dtype === "4.8 bits" && timeMs > 0));
    const others = rows.slice(2).map(({ op, impl, timeMs, spreadMs }) => [op, impl, timeMs, spreadMs]);
    return { own: rows.slice(0, 2).map(({ op, impl }) => [op, impl]), others, told: told.slice(1) };
  };
  const answer = (backends: string) => {
    const common = { build_number: 6000, backends };
    return JSON.stringify([
      { ...common, n_prompt: 24, n_gen: 0, avg_ns: 5e6, stddev_ns: 1e6 },
      { ...common, n_prompt: 0, n_gen: 6, avg_ns: 12e6, stddev_ns: 6e6 },
    ]);
  };
  try {
    Deno.env.set("TOKENFILTER_LLAMA_BENCH", bench);
    const found = await race(`echo "$*" > ${folder}/asked; echo '${answer("CUDA,CPU")}'`);
    assertEquals(found.own, [["model_prefill", "tokenfilter"], ["model_decode", "tokenfilter"]]);
    assertEquals(found.others, [["model_prefill", "llama.cpp b6000", 5, 1], [
      ...["model_decode", "llama.cpp b6000", 2, 1],
    ]]);
    const asked = await Deno.readTextFile(`${folder}/asked`);
    assertEquals(asked, "-m /models/small.gguf -p 24 -n 6 -ngl 99 -fa 1 -o json\n");
    for (
      const [script, reason] of [
        [`echo '${answer("CPU")}'`, "is a build for CPU, expected CUDA"],
        ["echo first >&2; echo no such model >&2; exit 1", "fails: no such model"],
        ["echo '[]'", "has no times of a prefill and of a decode"],
      ] as const
    ) {
      const { others, told } = await race(script);
      assertEquals([others, told], [[], [`no llama.cpp to compare with: ${bench} ${reason}`]]);
    }
  } finally {
    before === undefined
      ? Deno.env.delete("TOKENFILTER_LLAMA_BENCH")
      : Deno.env.set("TOKENFILTER_LLAMA_BENCH", before);
    await Deno.remove(folder, { recursive: true });
  }
});

/** A GPU on which some ops are others. */
function withOps(changed: Partial<BatchOps & Pick<Gpu["backend"], "linear">>, gpu: Gpu): Gpu {
  const backend = new Proxy(gpu.backend, {
    get(target, name) {
      if (name in changed) return changed[name as keyof BatchOps];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { ...gpu, backend };
}

testEmulated("a benchCase that computes something else is not timed", async () => {
  const gpu = withOps({ attentionDecode: () => {} }, await emulatedGpu());
  const sizes = { batch: 2, rows: 64, kept: 2, near: 0 };
  const benchCase = decodeCase(gpu, SIZES.attention, "bf16", sizes);
  assertThrows(() => benchCase.verify(), Error, "Cannot trust decode attention");

  const sizesOfFilter = { numKvHeads: 2, headDim: 32, hiddenSize: 64 };
  const confused = withOps({
    kvFilterObserveBatch: (states, decisions, output, residual) =>
      gpu.backend.kvFilterObserveBatch(states, decisions, residual, output),
  }, gpu);
  const step = stepCase(confused, sizesOfFilter, 2, { fusion: "learned" });
  assertThrows(() => step.verify(), Error, "Cannot trust kv_filter_step");

  for (const [rows, dtype] of [[2, "q4_k"], [9, "bf16"]] as const) {
    const still = withOps({ linear: () => {} }, gpu), sizes = { n: 5, k: 256 };
    const [product] = linearCases(still, sizes, rows, [dtype]);
    assertThrows(() => product!.verify(), Error, `Cannot trust linear by ${dtype}`);
  }

  const idle = withOps({ kvKeyStep: () => {} }, gpu);
  const keys = keyStepCase(idle, sizesOfFilter, 2);
  assertThrows(() => keys.verify(), Error, "Cannot trust kv_key_step: found 0");
  const held = withOps({
    kvKeyStep: (own, cache, rows) => {
      const counts = gpu.backend.read(cache.counts);
      gpu.backend.kvKeyStep(own, cache, rows);
      gpu.backend.write(cache.counts, counts); // rows that end stay
    },
  }, gpu);
  assertThrows(
    () => keyStepCase(held, sizesOfFilter, 2).verify(),
    Error,
    "Cannot trust kv_key_step: found the rows",
  );
});

testEmulated(
  "benchGpu() tells of a race that fails, and goes on; what is known is told after each race",
  async () => {
    const told: string[] = [], known: [number, number][] = [];
    const { rows, failures, floor } = await benchGpu(
      withOps({ attentionDecode: () => {} }, await emulatedGpu()),
      SIZES,
      {
        torch: false,
        onRace: (title) => void told.push(title),
        onFound: ({ rows, failures }) => void known.push([rows.length, failures.length]),
      },
    );
    assertEquals(failures.map(({ title }) => title), ["decode attention, bf16"]);
    assertMatch(failures[0]!.error, /^Cannot trust decode attention/);
    assertMatch(told[1]!, /^failed: decode attention, bf16: Cannot trust/);
    assertEquals(new Set(rows.map(({ op }) => op)).size, 6);
    assertEquals(known, [[0, 1], [6, 1], [10, 1], [14, 1], [22, 1], [28, 1]]);
    assert(floor.emptyMs >= 0 && floor.kernelMs > 0);
  },
);

testEmulated(
  "raceOnDevice() times the work alone, and keeps the device busy until the host is done",
  async () => {
    const gpu = await emulatedGpu(), calls: string[] = [];
    const memory = new Proxy(gpu.backend.memory, {
      get(target, name) {
        if (name === "copy") return () => void calls.push("copy");
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const backend = new Proxy(gpu.backend, {
      get: (target, name) => name === "memory" ? memory : Reflect.get(target, name),
    });
    const time = (work: () => void) => {
      calls.push("begin");
      work();
      calls.push("end");
      return 0.1;
    };
    const slow = () => {
      calls.push("slow");
      for (const began = performance.now(); performance.now() - began < 0.4;);
    };
    const quick = { run: () => void calls.push("run"), before: () => void calls.push("before"), repeats: 4 };
    const { medians } = raceOnDevice({ ...gpu, backend, time }, [{ run: slow }, quick], 3);
    assertEquals(medians, [0.1, 0.025]);
    const last = calls.slice(calls.lastIndexOf("slow") - 1);
    assertEquals(last.slice(0, 4), ["begin", "slow", "end", "before"]);
    assertEquals(last.slice(4).filter((call) => call !== "copy"), ["begin", "run", "end"]);
    const order = calls.filter((call) => call === "run" || call === "before");
    assertEquals(order, order.map((_, i) => i % 2 === 0 ? "before" : "run")); // in warm-ups too
    // At least 0.2 ms plus three times the host's time; a copy takes 0.1 ms.
    const copiesBefore = (at: number) => calls.slice(0, at).reverse().findIndex((call) => call !== "copy");
    assert(copiesBefore(calls.lastIndexOf("slow") - 1) >= 14);
    const few = copiesBefore(calls.lastIndexOf("run") - 1);
    assert(few >= 2 && few < 14, `${few}`);
  },
);

testEmulated(
  "stepCase() begins its cache anew before it is full, also where steps are recorded",
  async () => {
    const gpu = await emulatedGpu(), sizes = { numKvHeads: 1, headDim: 32, hiddenSize: 64 };
    for (const recorded of [undefined, 16]) {
      const benchCase = stepCase(gpu, sizes, 1, { pruneRatio: 0 }, recorded);
      for (let turn = 0; turn < 2100 / (recorded ?? 1); turn++) {
        benchCase.before!();
        benchCase.run();
      }
      gpu.backend.synchronize();
    }
    assert(floorOf(gpu, 2).kernelMs > 0);
  },
);

Deno.test("describeRows() lays out a table, names to the left and numbers to the right", () => {
  const work = {
    op: "rope",
    impl: "cuda",
    shape: "8 x 4",
    dtype: "f16",
    skip: 0,
    flops: 2e6,
    bytes: 4e6,
  } as const;
  const peak = { f32Flops: 1e13, tensorFlops: undefined, copyBytes: 1e12 };
  const rows = [
    gpuRow({ ...work, phase: "decode" }, 0.008, 0.001, peak),
    gpuRow(
      { ...work, op: "attention", impl: "torch 2", shape: "16", dtype: "bf16", skip: 0.5, phase: "decode" },
      10,
      2,
      peak,
    ),
  ];
  assertEquals(describeRows(rows).split("\n"), [
    "op         impl     shape  dtype  skip        ms    ± ms  GFLOP/s  GB/s  of peak",
    "---------  -------  -----  -----  ----  --------  ------  -------  ----  -------",
    "rope       cuda     8 x 4  f16       0  0.008000  0.0010      250   500     0.50",
    "attention  torch 2  16     bf16    0.5     10.00     2.0        0     0     0.00",
  ]);
});
