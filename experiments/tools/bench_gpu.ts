/**
 * `deno task bench:gpu`: how fast the CUDA kernels are, compared with the device's peak and PyTorch. Everything is verified
 * before it is timed. See `deno task bench:gpu --help`.
 */
import { type BenchReport, tabulate, tabulateBars } from "../../lib/plot/mod.ts";
import { loadModel, locatePath, type ModelConfig } from "../../lib/model/mod.ts";
import { UsageError } from "../../lib/errors.ts";
import { readVersion } from "../../lib/version.ts";
import { buildArchOf, type CudaMemory, openDriver } from "../../ffi/cuda/mod.ts";
import { type CudaBackend, openCuda } from "../../ffi/mod.ts";
import { buildCuda } from "../../build.ts";
import { ensureCublasLt } from "../../ffi/build/cublaslt.ts";
import { readBars } from "./bench_gpu/bars.ts";
import { type AttentionSizes, decodeCase, prefillCase } from "./bench_gpu/attention.ts";
import {
  copyRate,
  f32Rate,
  type FloatType,
  type Floor,
  floorOf,
  type Gpu,
  raceOnDevice,
  tensorRate,
} from "./bench_gpu/device.ts";
import { scanCase, stepCase } from "./bench_gpu/filter.ts";
import { keyStepCase } from "./bench_gpu/keys.ts";
import { decodeStepCases, randomModel } from "./bench_gpu/layer.ts";
import { linearCases, type LinearSizes } from "./bench_gpu/linear.ts";
import { describeDriver } from "./bench_gpu/machine.ts";
import { modelCases, type RacedModel, timeLlama } from "./bench_gpu/model.ts";
import { type GpuBenchCase, type GpuPeak, type GpuRow, gpuRow } from "./bench_gpu/row.ts";
import { timeTorch, type TorchJob } from "./bench_gpu/torch.ts";
import { expectWritableFile, writeWhole } from "../commands/cli/files.ts";
import { expectChoice, parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { formatTable } from "../commands/cli/output/table.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";

/** The exit code where a race failed. */
const EXIT_FAILED = 1;
const OPS = ["decode", "prefill", "linear", "filter", "step", "model"] as const;
export const USAGE = `Usage: deno task bench:gpu [flags]

Times filtered attention (dense and half skipped), matrix products by rows and type of the weights, the filter's kernels, and
whole decode steps. Where python3 or TOKENFILTER_PYTHON has torch with CUDA, PyTorch runs next to attention and to products of
bf16, and FlashInfer next to attention if it is installed. A --model runs next to llama.cpp. Times are medians of 30 turns by
events on the device, with the L2 cache overwritten before each. The column "of peak" is the fraction reached of the peak of the device's
memory (measured) and arithmetic (nominal). A race that fails is reported, and the
others go on. Exit code 0: all well; 1: a race failed; 2: no GPU, or no build.

  --device N
      number of the device (0)
  --only ${OPS.join("|")}
      only one part
  --model NAME|PATH.gguf
      also time a prefill and decode steps of a model, next to llama-bench (PATH, or TOKENFILTER_LLAMA_BENCH) on its file
  --out FILE.json
      write the rows, their meaning and the machine there as well, anew after each race; deno task report takes
      it under the name bench_gpu.json
  --json
      print only JSON on stdout
  --quiet
      no progress on stderr
  --help
      print this`;

/** Sizes of all races. */
export interface GpuBenchSizes {
  readonly attention: AttentionSizes;
  readonly dtypes: readonly FloatType[];
  readonly decode: { readonly batch: number; readonly rows: number };
  readonly prefill: readonly number[];
  /** Products by one matrix, by rows. */
  readonly linear: LinearSizes & { readonly rows: readonly number[] };
  readonly step: { readonly batch: number; readonly hiddenSize: number };
  readonly scan: { readonly tokens: number; readonly chunks: readonly number[] };
  readonly model: ModelConfig;
  readonly modelBatch: number;
  readonly turns: number;
}

/** Sizes of a model of 8 billion parameters, with only two of its layers and a tiny vocabulary. */
const SIZES: GpuBenchSizes = {
  attention: { numHeads: 32, numKvHeads: 8, headDim: 128 },
  dtypes: ["bf16", "f16"],
  decode: { batch: 32, rows: 8192 },
  prefill: [4096, 8192, 16384],
  linear: { n: 14336, k: 4096, rows: [1, 8, 16, 32, 64, 4096] },
  step: { batch: 64, hiddenSize: 4096 },
  scan: { tokens: 4096, chunks: [32, 128, 512] },
  model: {
    architecture: "llama",
    numLayers: 2,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
    hiddenSize: 4096,
    intermediateSize: 14336,
    vocabSize: 256,
    rope: { theta: 500000 },
    rmsNormEps: 1e-5,
    contextLength: 8192,
    tieWordEmbeddings: false,
  },
  modelBatch: 8,
  turns: 30,
};

/** Steps of the filter in one graph. */
const STEPS_RECORDED = 16;

/** A race, and the jobs of others next to it. */
interface Race {
  readonly title: string;
  make(): GpuBenchCase[];
  readonly torch?: TorchJob;
  /** A file for llama.cpp, and the tokens of its prefill and decode. */
  readonly llama?: readonly [path: string, prefill: number, decode: number];
}

/** All races of the parts that are wanted. */
function* races(
  gpu: Gpu,
  sizes: GpuBenchSizes,
  wants: (part: typeof OPS[number]) => boolean,
  raced?: RacedModel & { readonly path: string },
): Generator<Race> {
  const { numHeads, numKvHeads, headDim } = sizes.attention;
  const torch = (phase: "prefill" | "decode", dtype: string, batch: number, rows: number): TorchJob => ({
    phase,
    dtype,
    batch,
    rows,
    heads: numHeads,
    kv_heads: numKvHeads,
    dim: headDim,
  });
  for (const dtype of wants("decode") ? sizes.dtypes : []) {
    const { batch, rows } = sizes.decode;
    const cases = [
      { batch, rows, kept: batch, near: 0 },
      { batch, rows: rows / 2, kept: batch, near: 0 },
      { batch, rows: rows / 2, kept: batch, near: 16 },
      { batch, rows: rows / 2, kept: batch / 2, near: 16 },
    ];
    yield {
      title: `decode attention, ${dtype}`,
      make: () => cases.map((each) => decodeCase(gpu, sizes.attention, dtype, each)),
      torch: torch("decode", dtype, batch, rows),
    };
  }
  for (const tokens of wants("prefill") ? sizes.prefill : []) {
    const dtype = sizes.dtypes[0]!;
    const variants = gpu.backend.useWgmma(true) ? [false, true] : [false];
    gpu.backend.useWgmma(false);
    const cases = [{ skip: 0, recent: 0 }, { skip: 0.5, recent: 0 }, { skip: 0.5, recent: 16 }]
      .flatMap((each) => variants.map((wgmma) => ({ ...each, wgmma })));
    yield {
      title: `prefill attention, ${tokens} tokens, ${dtype}`,
      make: () => cases.map((each) => prefillCase(gpu, sizes.attention, dtype, { tokens, ...each })),
      torch: torch("prefill", dtype, 1, tokens),
    };
  }
  for (const rows of wants("linear") ? sizes.linear.rows : []) {
    const { n, k } = sizes.linear;
    yield {
      title: `linear, ${rows} rows`,
      make: () => linearCases(gpu, sizes.linear, rows),
      torch: { phase: "linear", dtype: "bf16", rows, n, k },
    };
  }
  if (wants("filter")) {
    const filter = { numKvHeads, headDim, hiddenSize: sizes.step.hiddenSize };
    yield {
      title: "filter",
      make: () => [
        stepCase(gpu, filter, sizes.step.batch),
        stepCase(gpu, filter, sizes.step.batch, {}, STEPS_RECORDED),
        stepCase(gpu, filter, sizes.step.batch, { fusion: "learned" }),
        keyStepCase(gpu, filter, sizes.step.batch),
        ...[false, true].flatMap((learned) =>
          sizes.scan.chunks.map((chunk) => scanCase(gpu, filter, sizes.scan.tokens, chunk, learned))
        ),
      ],
    };
  }
  if (wants("step")) {
    yield {
      title: "decode steps",
      make: () => {
        const capacity = 4 * sizes.turns + 64;
        return decodeStepCases(gpu, randomModel(gpu, sizes.model), {
          batch: sizes.modelBatch,
          capacity,
        });
      },
    };
  }
  if (wants("model") && raced !== undefined) {
    yield {
      title: `the model ${raced.name}`,
      make: () => modelCases(gpu, raced),
      llama: [raced.path, raced.prefill, raced.decode],
    };
  }
}

/** Results of a bench. */
export interface GpuBench {
  readonly rows: readonly GpuRow[];
  readonly peak: GpuPeak;
  readonly floor: Floor;
  /** Races that failed, or could not be compared with PyTorch, and why. */
  readonly failures: readonly { readonly title: string; readonly error: string }[];
}

/** How to bench. */
export interface GpuBenchOptions {
  /** The only part to run; all by default. */
  readonly only?: string;
  /** Whether to ask PyTorch. */
  readonly torch: boolean;
  /** A model to race, and its GGUF file. */
  readonly model?: RacedModel & { readonly path: string };
  /** Called before each race with its title and the finished fraction; then with messages about it. */
  readonly onRace: (title: string, done?: number) => void;
  /** Called with all results so far, after each race. */
  readonly onFound?: (found: GpuBench) => Promise<void> | void;
}

/** Runs the races and gives a row for each benchCase. A race that fails does not keep the others from being run. */
export async function benchGpu(gpu: Gpu, sizes: GpuBenchSizes, options: GpuBenchOptions): Promise<GpuBench> {
  const peak: GpuPeak = {
    f32Flops: f32Rate(gpu.device),
    tensorFlops: tensorRate(gpu.device),
    copyBytes: copyRate(gpu),
  };
  const rows: GpuRow[] = [], failures: { title: string; error: string }[] = [];
  const found: GpuBench = { rows, peak, floor: floorOf(gpu, sizes.turns), failures };
  const wants = (part: string) => options.only === undefined || options.only === part;
  const all = [...races(gpu, sizes, wants, options.model)];
  for (const [i, race] of all.entries()) {
    options.onRace(race.title, i / all.length);
    try {
      rows.push(...await runRace(gpu, race, sizes.turns, peak, options));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      failures.push({ title: race.title, error: error.message });
      options.onRace(`failed: ${race.title}: ${error.message}`);
    }
    await options.onFound?.(found);
  }
  return found;
}

/** Verifies and times the cases of a race, and PyTorch next to them. */
async function runRace(
  gpu: Gpu,
  race: Race,
  turns: number,
  peak: GpuPeak,
  options: GpuBenchOptions,
): Promise<GpuRow[]> {
  const cases = race.make();
  for (const benchCase of cases) benchCase.verify();
  const { medians, spreads } = raceOnDevice(gpu, cases, turns);
  gpu.backend.synchronize(); // throws the errors of kernels so far
  const rows = cases.map((benchCase, i) => gpuRow(benchCase, medians[i]!, spreads[i]!, peak));
  if (race.llama !== undefined) {
    const found = await timeLlama(...race.llama);
    if (typeof found === "string") options.onRace(`no llama.cpp to compare with: ${found}`);
    else {
      for (const [i, ms] of [found.prefillMs, found.decodeMs].entries()) {
        rows.push(gpuRow({ ...cases[i]!, impl: found.impl }, ms, found.spreads[i]!, peak));
      }
    }
  }
  if (race.torch === undefined || !options.torch) return rows;
  const first = cases[0]!;
  first.run();
  const check = "inputs" in first ? first.inputs as Parameters<typeof timeTorch>[2] : undefined;
  const found = await timeTorch(gpu, race.torch, check);
  if (typeof found === "string") options.onRace(`no PyTorch to compare with: ${found}`);
  else {
    for (const { library, backend, time_ms, spread_ms } of found.times) {
      rows.push(gpuRow({ ...first, impl: `${library} ${backend}` }, time_ms, spread_ms, peak));
    }
    for (const reason of found.missing) options.onRace(`not timed: ${reason}`);
  }
  return rows;
}

/** A bench as a result that reports read, and further data that no report shows. */
export function documentOf(
  { rows, peak, floor, failures }: GpuBench,
  environment: BenchReport["environment"],
  machine: { readonly [name: string]: unknown },
) {
  return {
    kernels: rows,
    lengths: [],
    bars: readBars(rows),
    peak: { flopsPerSecond: peak.f32Flops, bytesPerSecond: peak.copyBytes },
    environment,
    machine: { ...machine, peak, floor },
    failures,
  } satisfies BenchReport & { [name: string]: unknown };
}

/** The table: names to the left, numbers to the right. */
export function describeRows(rows: readonly GpuRow[]): string {
  return formatTable(tabulate(rows, [
    ["op", "", (row) => row.op, true],
    ["impl", "", (row) => row.impl, true],
    ["shape", "", (row) => row.shape, true],
    ["dtype", "", (row) => row.dtype, true],
    ["skip", "", (row) => row.skip.toString()],
    ["ms", "", (row) => row.timeMs.toPrecision(4)],
    ["± ms", "", (row) => row.spreadMs.toPrecision(2)],
    ["GFLOP/s", "", (row) => row.gflops.toFixed(0)],
    ["GB/s", "", (row) => row.gbps.toFixed(0)],
    ["of peak", "", (row) => row.peak.toFixed(2)],
  ]));
}

/** Tokens of a prefill and of a decode, as llama-bench has them by default. */
const MODEL_TOKENS = { prefill: 512, decode: 128 };

/** Puts the model of a GGUF file on the device. */
async function openRaced(
  named: string,
  backend: CudaBackend,
): Promise<RacedModel & { readonly path: string }> {
  const path = await locatePath(named, {}), { model, name, weights } = await loadModel(path, backend);
  return { model, name, weights, path, ...MODEL_TOKENS };
}

export async function main(args: readonly string[]): Promise<number> {
  const { json, quiet, only, out, model: named, device: ordinal = "0" } = parseOwnFlags(
    args,
    ["device", "only", "out", "model"],
    ["json", "quiet"],
  );
  if (only !== undefined) expectChoice("only", only, OPS);
  if (out !== undefined) expectWritableFile(out);
  if (only === "model" && named === undefined) {
    throw new UsageError("Cannot use --only model: expected --model with it");
  }
  const progress = new Progress(quiet ? undefined : Deno.stderr);
  const driver = openDriver(), device = driver.device(readInteger("device", ordinal, 0));
  const onProgress = (message: string) => progress.line(message);
  const { manifest } = await buildCuda({
    archs: [buildArchOf(device.arch)],
    driver: driver.version,
    onProgress,
  });
  await ensureCublasLt(manifest.nvcc, { onProgress });
  using backend: CudaBackend = await openCuda({
    device: device.ordinal,
    wgmma: false, // races switch them on
    dependentLaunch: false,
  });
  progress.line(backend.description);
  const memory = backend.memory as CudaMemory;
  const gpu: Gpu = { backend, device, time: (work) => memory.time(work) };
  const { cuda, release, state } = await describeDriver(driver, device);
  const machine = {
    device,
    driver: { cuda, release: release ?? null },
    state,
    host: { cores: navigator.hardwareConcurrency, arch: Deno.build.arch },
    nvcc: manifest.nvcc,
    git: manifest.git,
  };
  const environment = {
    version: await readVersion(),
    backendDescription: backend.description,
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}, ${device.name}`,
    startedAt: new Date().toISOString(),
  };
  const write = (found: GpuBench) => JSON.stringify(documentOf(found, environment, machine), null, 2);
  const model = named === undefined ? undefined : await openRaced(named, backend);
  progress.start();
  const found = await benchGpu(gpu, SIZES, {
    ...(model !== undefined && { model }),
    ...(only !== undefined && { only }),
    torch: true,
    onRace: (title, done) => {
      const left = done === undefined || done === 0 ? "" : ` (${progress.eta(done)})`;
      progress.line(`${title}${left}`);
    },
    onFound: async (found) => {
      if (out !== undefined) await writeWhole(out, write(found) + "\n");
    },
  });
  if (json) writeLine(Deno.stdout, write(found));
  else {
    const { peak: { f32Flops, copyBytes }, floor: { emptyMs, kernelMs } } = found;
    writeLine(Deno.stdout, describeRows(found.rows));
    writeLine(
      Deno.stdout,
      `copies ${(copyBytes / 1e9).toFixed(0)} GB/s, f32 ${
        (f32Flops / 1e12).toFixed(1)
      } TFLOP/s; between two events ` +
        `nothing takes ${(1000 * emptyMs).toFixed(1)} us, and the smallest kernel ${
          (1000 * kernelMs).toFixed(1)
        } us`,
    );
    writeLine(Deno.stdout, formatTable(tabulateBars(readBars(found.rows))));
    for (const { title, error } of found.failures) writeLine(Deno.stdout, `failed: ${title}: ${error}`);
  }
  return found.failures.length > 0 ? EXIT_FAILED : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
