/**
 * `deno task bench`: the speed of the kernels, compared with the machine's peak and PyTorch. Everything is verified
 * before it is timed. See `deno task bench --help`.
 */
import { WEIGHT_DTYPES } from "../../lib/dtype.ts";
import { UsageError } from "../../lib/errors.ts";
import {
  type BenchReport,
  type KernelRow,
  type MachinePeak,
  readPlotly,
  renderBenchReport,
  tabulateKernels,
  tabulateLengths,
  tabulatePeers,
} from "../../lib/plot/mod.ts";
import { readVersion } from "../../lib/version.ts";
import { buildCpu, ensureBlas } from "../../build.ts";
import { type CpuBackend, cpuLevels, openCpu } from "../../ffi/mod.ts";
import { attentionInputs, attentionRace } from "./bench/attention.ts";
import { linearRaces } from "./bench/linear.ts";
import { expectInputs, LENGTHS, measureModel } from "./bench/lengths.ts";
import { longDecodeRace } from "./bench/long_decode.ts";
import { measurePeers, PEER_LENGTHS } from "./bench/peers.ts";
import { type BenchCase, race } from "./bench/run.ts";
import { scanRace } from "./bench/scan.ts";
import { startTorch, type Torch } from "./bench/torch.ts";
import { exists, expectWritable, makeFolder, writeWhole } from "../commands/cli/files.ts";
import { readDType } from "../commands/cli/machine/model.ts";
import { expectChoice, parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { formatTable } from "../commands/cli/output/table.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";

const OPS = ["attention", "filter", "linear", "lengths"] as const;
export const USAGE = `Usage: deno task bench [flags]

Times filtered attention, the filter's recurrence, SmolLM2's linear layers, and a model end to end at growing lengths, with
and without the presets. Attention is timed in full, with half of the tokens skipped, and by PyTorch where python3 or
TOKENFILTER_PYTHON has torch; decode also over a cache of 0.8 GB. Cases take turns; times are medians of 7 turns, those
of a model of 3. The column "of peak" is the fraction reached of the peak of multiply-adds and memory on this machine, both
measured in each turn.

  --threads N
      threads of all cases (all cores)
  --level base|avx2|avx512
      instruction-set level (the best)
  --only ${OPS.join("|")}
      only one op
  --model MODEL
      whose lengths are measured: its name or path (tiny)
  --dtype ${WEIGHT_DTYPES.join("|")}
      element type that its matrices are converted to at load (each as the file has it)
  --lengths LIST
      tokens, such as 512,4096 (${LENGTHS.join(",")}; with --peers and --text ${PEER_LENGTHS.join(",")})
  --peers
      only a model end to end, next to llama.cpp and PyTorch, where python3 or TOKENFILTER_PYTHON has llama-cpp-python,
      or torch and transformers: they take turns on the same ids, and their losses are compared
  --turns N
      turns of each with --peers (5)
  --text FILE
      whose beginnings the model reads (the built-in prose)
  --out DIR
      folder for bench.json and bench.html (none)
  --json
      print only JSON on stdout
  --quiet
      no progress on stderr
  --help
      print this`;

type Options = ReturnType<typeof readOptions>;

function readOptions(args: readonly string[]) {
  const { threads, only, out, model = "tiny", dtype, lengths, turns, ...rest } = parseOwnFlags(
    args,
    ["threads", "level", "only", "model", "dtype", "lengths", "text", "turns", "out"],
    ["peers", "json", "quiet"],
  );
  const refused = rest.peers ? { only, dtype } : { turns };
  for (const [name, value] of Object.entries(refused)) {
    if (value === undefined) continue;
    throw new UsageError(
      rest.peers ? `Cannot use --${name} with --peers: leave it out` : `Cannot use --${name} without --peers`,
    );
  }
  if (out !== undefined && exists(`${out}/bench.json`)) {
    throw new UsageError(`Cannot write to "${out}": it holds a benchmark (take another --out)`);
  }
  if (out !== undefined) expectWritable(out);
  return {
    ...rest,
    out,
    model,
    dtype: readDType(dtype),
    lengths: lengths?.split(",").map((length) => readInteger("lengths", length, 1)) ??
      (rest.peers && rest.text !== undefined ? PEER_LENGTHS : LENGTHS),
    turns: readInteger("turns", turns ?? "5", 1, 1000),
    threads: readInteger("threads", threads ?? String(navigator.hardwareConcurrency), 1, 1024),
    only: only === undefined ? undefined : expectChoice("only", only, OPS),
  };
}

/** The backend at the asked level, and the level's name. */
async function open({ threads, level }: Options, progress: Progress): Promise<[CpuBackend, string]> {
  const onProgress = (message: string) => progress.line(message);
  await Promise.all([buildCpu({ onProgress }), ensureBlas({ onProgress })]);
  const levels = await cpuLevels();
  const chosen = level ?? (Deno.env.get("TOKENFILTER_LEVEL") || levels.at(-1)!);
  if (!levels.includes(chosen)) {
    throw new UsageError(`Cannot use --level "${chosen}": this machine has ${levels.join(", ")}`);
  }
  return [await openCpu({ threads, level: chosen }), chosen];
}

/** All races, one after the other. Each is made only before its start, so that the memory of the last one is free. */
async function* races(
  { only, peers }: Options,
  backend: CpuBackend,
  impl: string,
  torch: Torch | undefined,
): AsyncGenerator<BenchCase[]> {
  const wants = (op: typeof OPS[number]) => !peers && (only === undefined || only === op);
  if (wants("attention")) {
    const inputs = attentionInputs();
    for (const phase of ["prefill", "decode"] as const) {
      yield await attentionRace(backend, impl, inputs, phase, torch);
    }
    yield longDecodeRace(backend, impl, inputs);
  }
  if (wants("filter")) {
    for (const phase of ["prefill", "decode"] as const) yield scanRace(backend, impl, phase);
  }
  if (wants("linear")) yield* linearRaces(backend, impl);
}

function describe({ kernels, lengths, peers = [] }: BenchReport): string {
  const parts = [];
  if (kernels.length > 0) {
    parts.push(
      [formatTable(tabulateKernels(kernels)), ...explainPeak(kernels), ...compare(kernels)].join("\n"),
    );
  }
  if (lengths.length > 0) parts.push(formatTable(tabulateLengths(lengths)));
  if (peers.length > 0) parts.push(formatTable(tabulatePeers(peers)));
  return parts.join("\n\n");
}

/** Explains how a kernel can exceed the peak, if one does. */
export function explainPeak(rows: readonly KernelRow[]): string[] {
  if (rows.every(({ peak }) => peak <= 1)) return [];
  return [
    "A peak above 1: the kernel's data stays in a cache, which is faster than the memory that the peak measures.",
  ];
}

/** Conclusions from the attention rows: the saving, and our time relative to PyTorch's. */
export function* compare(rows: readonly KernelRow[]): Generator<string> {
  for (const phase of ["prefill", "decode"]) {
    const all = rows.filter((r) => r.op === "filtered_attention" && r.phase === phase);
    const of = all.filter(({ shape }) => shape === all[0]!.shape);
    const own = of.filter((r) => !r.impl.startsWith("torch"));
    const dense = own.find((r) => r.skip === 0);
    if (dense === undefined) continue;
    const parts = own.filter((r) => r.skip > 0).map((r) =>
      `${(r.timeMs / dense.timeMs).toFixed(3)} of the full model at ${r.skip} skipped, recent ${r.recent}`
    );
    const others = of.filter((r) => r.impl.startsWith("torch")).map((r) => r.timeMs);
    if (others.length > 0) {
      parts.push(`dense at ${(Math.min(...others) / dense.timeMs).toFixed(2)} times PyTorch's speed`);
    }
    yield `${phase}: ${parts.join("; ")}`;
  }
}

export async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  const progress = new Progress(options.quiet ? undefined : Deno.stderr);
  const startedAt = new Date().toISOString(), [load] = Deno.loadavg();
  if (options.peers || ["lengths", undefined].includes(options.only)) await expectInputs(options);
  const [backend, level] = await open(options, progress);
  progress.line(backend.description);
  const started = !options.peers && (options.only === undefined || options.only === "attention")
    ? await startTorch(options.threads)
    : undefined;
  if (typeof started === "string") progress.line(`no PyTorch to compare with: ${started}`);
  const torch = typeof started === "string" ? undefined : started;
  const kernels: KernelRow[] = [], peaks: MachinePeak[] = [];
  const measurePeak = () => {
    const peak = backend.measureMachine();
    peaks.push(peak);
    return peak;
  };
  try {
    for await (const cases of races(options, backend, `cpu ${level}`, torch)) {
      const { op, phase, shape, dtype } = cases[0]!;
      progress.line(`${op}, ${phase}, ${shape}, ${dtype}`);
      kernels.push(...await race(cases, measurePeak));
    }
  } finally {
    await torch?.close();
  }
  if (peaks.length === 0) measurePeak();
  // Other work on the machine can only lower a measurement of the peak.
  const peak: MachinePeak = {
    flopsPerSecond: Math.max(...peaks.map((r) => r.flopsPerSecond)),
    bytesPerSecond: Math.max(...peaks.map((r) => r.bytesPerSecond)),
  };
  progress.line(
    `peak: ${(peak.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s of multiply-adds, ` +
      `${(peak.bytesPerSecond / 1e9).toFixed(1)} GB/s from memory`,
  );
  const lengths = !options.peers && (options.only === undefined || options.only === "lengths")
    ? await measureModel(backend, progress, options)
    : [];
  const peers = options.peers ? await measurePeers(backend, progress, options) : undefined;
  const report: BenchReport = {
    kernels,
    lengths,
    model: options.model,
    ...(options.dtype && { dtype: options.dtype }),
    ...(peers && { peers, turns: options.turns }),
    peak,
    environment: { ...await describeMachine(backend, startedAt), load },
  };
  if (options.out !== undefined) {
    makeFolder(options.out);
    await writeWhole(`${options.out}/bench.json`, JSON.stringify(report, null, 2) + "\n");
    await writeWhole(`${options.out}/bench.html`, renderBenchReport(report, { plotly: await readPlotly() }));
    progress.line(`report: ${options.out}/bench.html`);
  }
  writeLine(Deno.stdout, options.json ? JSON.stringify(report, null, 2) : describe(report));
  return EXIT.ok;
}

async function describeMachine(backend: CpuBackend, startedAt: string): Promise<BenchReport["environment"]> {
  return {
    version: await readVersion(),
    backendDescription: backend.description,
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    startedAt,
  };
}

if (import.meta.main) await runTask(main, USAGE);
