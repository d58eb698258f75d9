/**
 * `deno task bench`: the speed of the kernels on the CPU or a GPU, compared with the peak and with PyTorch, and of a model
 * end to end. Everything is verified before it is timed. See `deno task bench --help`.
 */
import { UsageError } from "../../../lib/errors.ts";
import {
  type BenchReport,
  readPlotly,
  renderBenchReport,
  tabulateBars,
  tabulateKernels,
  tabulateLengths,
  tabulatePeers,
} from "../../../lib/plot/mod.ts";
import { readVersion } from "../../../lib/version.ts";
import { gitHash } from "../../../ffi/build/command.ts";
import { exists, expectWritable, makeFolder, writeWhole } from "../../commands/cli/files.ts";
import { integer, onOff, pick, text, under } from "../../commands/cli/flags/flag.ts";
import { MODEL, QUIET, TABLE } from "../../commands/cli/flags/flags.ts";
import { expectChoice, readInteger, textOf } from "../../commands/cli/flags/parse.ts";
import { readCount } from "../../commands/cli/flags/text.ts";
import { readDType } from "../../commands/cli/machine/model.ts";
import { formatTable } from "../../commands/cli/output/table.ts";
import { EXIT, runCommand, writeLine } from "../../commands/cli/task.ts";
import { type Asked, plainCommand } from "../../commands/run.ts";
import { readBars } from "./bars.ts";
import { cpuRaces, openCpuDevice } from "./cpu.ts";
import { gpuRaces, openGpuDevice } from "./gpu.ts";
import { expectInputs, LENGTHS, measureModel } from "./lengths.ts";
import { measurePeers, PEER_LENGTHS } from "./peers.ts";
import { startTorch, type Torch, torchCases } from "./python.ts";
import { type Device, type Race, race, type TimedRow } from "./run.ts";

/** The exit code where a race failed. */
const EXIT_FAILED = 1;
const PARTS = ["attention", "filter", "linear", "steps", "lengths"] as const;

function readOptions({ values }: Asked) {
  const gpu = values.has("gpu"), peers = values.has("peers");
  const [only, out, path] = ["only", "out", "text"].map((name) => textOf(values, name));
  const refuse = (names: readonly string[], why: string) => {
    const name = names.find((name) => values.has(name));
    if (name !== undefined) throw new UsageError(`Cannot use --${name} ${why}`);
  };
  if (peers) refuse(["only", "dtype"], "with --peers: leave it out");
  else refuse(["turns"], "without --peers");
  if (gpu) refuse(["level"], "with --gpu: leave it out");
  else if (only === "steps") refuse(["only"], "steps without --gpu: the CPU has no such part");
  if (out !== undefined && exists(`${out}/bench.json`)) {
    throw new UsageError(`Cannot write to "${out}": it holds a benchmark (take another --out)`);
  }
  if (out !== undefined) expectWritable(out);
  const chosen = only === undefined ? undefined : expectChoice("only", only, PARTS);
  return {
    ...{ gpu, peers, out, text: path, json: values.has("json"), level: textOf(values, "level") },
    withLengths: !peers && (chosen ?? (gpu && !values.has("model") ? "" : "lengths")) === "lengths",
    model: textOf(values, "model") ?? "tiny",
    parts: peers ? [] : PARTS.filter((part) => part !== "lengths" && (chosen ?? part) === part),
    dtype: readDType(textOf(values, "dtype")),
    lengths: textOf(values, "lengths")?.split(",").map((length) => readInteger("lengths", length, 1)) ??
      (peers && path !== undefined ? PEER_LENGTHS : LENGTHS),
    turns: readCount(values, "turns", 1, 1000) ?? 5,
    threads: readCount(values, "threads", 1, 1024) ?? navigator.hardwareConcurrency,
  };
}

/** A race that failed, and why. */
interface Failure {
  readonly title: string;
  readonly error: string;
}

/** Runs the races. A race that fails does not keep the others from being run. */
export async function runRaces(
  device: Device,
  races: readonly Race[],
  { line, onRows, torch }: {
    readonly line: (text: string) => void;
    readonly onRows: (rows: readonly TimedRow[], failures: readonly Failure[]) => Promise<void>;
    readonly torch?: Torch | undefined;
  },
): Promise<void> {
  const rows: TimedRow[] = [], failures: Failure[] = [];
  for (const [i, { title, withTorch, make }] of races.entries()) {
    line(`[${i + 1} of ${races.length}] ${title}`);
    try {
      const cases = make();
      if (withTorch && torch) cases.push(...await torchCases(torch, device.backend, cases[0]!));
      rows.push(...await race(device, cases));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      failures.push({ title, error: error.message });
      line(`failed: ${title}: ${error.message}`);
    }
    await onRows(rows, failures);
  }
}

function describe({ kernels, lengths, peers = [], bars = [] }: BenchReport): string {
  const tables = [
    kernels.length > 0 && tabulateKernels(kernels),
    bars.length > 0 && tabulateBars(bars),
    lengths.length > 0 && tabulateLengths(lengths),
    peers.length > 0 && tabulatePeers(peers),
  ];
  return tables.filter((table) => table !== false).map(formatTable).join("\n\n");
}

async function work(options: ReturnType<typeof readOptions>, { progress }: Asked): Promise<number> {
  const { gpu, threads, out, parts } = options;
  const line = (text: string) => progress.line(text);
  const startedAt = new Date().toISOString(), [load] = Deno.loadavg();
  if (options.withLengths || options.peers) await expectInputs(options);
  const device = gpu ? await openGpuDevice(0, line) : await openCpuDevice(threads, options.level, line);
  const { backend, facts } = device;
  line(backend.description);
  const environment = {
    version: await readVersion(),
    git: await gitHash(),
    backendDescription: backend.description,
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    ...{ startedAt, load },
  };
  const { model, dtype } = options;
  let report: BenchReport & { failures: readonly Failure[]; machine: Device["facts"] } = {
    ...{ kernels: [], lengths: [], model, ...(dtype && { dtype }) },
    ...{ peak: device.best(), environment, machine: facts, failures: [] },
  };
  const add = async (found: Partial<typeof report>) => {
    report = { ...report, ...found, peak: device.best() };
    if (out === undefined) return;
    makeFolder(out);
    await writeWhole(`${out}/bench.json`, JSON.stringify(report, null, 2) + "\n");
    await writeWhole(`${out}/bench.html`, renderBenchReport(report, { plotly: await readPlotly() }));
  };
  const races = parts.flatMap((part) => (gpu ? gpuRaces : cpuRaces)(device, part));
  const started = races.some(({ withTorch }) => withTorch) && await startTorch(gpu ? "cuda" : "cpu", threads);
  if (typeof started === "string") line(`no PyTorch to compare with: ${started}`);
  const torch = typeof started === "object" ? started : undefined;
  const onRows = (kernels: readonly TimedRow[], failures: readonly Failure[]) =>
    add({ kernels, failures, ...(gpu && { bars: readBars(kernels) }) });
  try {
    await runRaces(device, races, { line, onRows, torch });
  } finally {
    await torch?.close();
  }
  if (options.withLengths) await add({ lengths: await measureModel(backend, progress, options) });
  if (options.peers) {
    await add({ peers: await measurePeers(backend, progress, options), turns: options.turns });
  }
  const { flopsPerSecond, bytesPerSecond } = report.peak;
  line(`peak: ${(flopsPerSecond / 1e9).toFixed(0)} GFLOP/s, ${(bytesPerSecond / 1e9).toFixed(1)} GB/s`);
  if (out !== undefined) line(`report: ${out}/bench.html`);
  writeLine(Deno.stdout, options.json ? JSON.stringify(report, null, 2) : describe(report));
  return report.failures.length > 0 ? EXIT_FAILED : EXIT.ok;
}

export const command = plainCommand({
  name: "bench",
  summary: "Times filtered attention, the filter's decisions, matrix products, and a model end to end.",
  usage: "[flags]",
  about:
    `The model runs at growing lengths, with and without the presets. With --gpu also decode steps of a batch are
timed, and the model only where --model names one. Attention is timed in full and with half of the tokens skipped, next
to PyTorch where python3 or TOKENFILTER_PYTHON has it. Cases take turns; times are medians. A GPU's are of events on the
device, with the L2 cache overwritten before each. The column "of peak" is the fraction reached of the peak of
arithmetic and memory: on the CPU measured in each turn; of a GPU, memory measured and arithmetic nominal. Times of a GPU
need a card: the interpreter of test:gpu --ptx has none. A race that fails is reported, and the others go on. Exit code 1:
a race failed.`,
  flags: {
    ...under("What runs", {
      only: text(PARTS.join("|"), "only one part"),
      model: text("MODEL", "whose lengths are measured: its name or path (tiny)"),
      lengths: text(
        "LIST",
        `tokens, such as 512,4096 (${LENGTHS.join(",")}; with --peers and --text ${PEER_LENGTHS.join(",")})`,
      ),
      text: text("FILE", "whose beginnings the model reads (the built-in prose)"),
      peers: onOff(
        "only a model end to end, next to llama.cpp and PyTorch, where python3 or TOKENFILTER_PYTHON has " +
          "llama-cpp-python, or torch and transformers: they take turns on the same ids, and their losses are compared",
      ),
    }),
    gpu: onOff("a GPU, by the CUDA library (CUDA_VISIBLE_DEVICES chooses which)"),
    level: text("base|avx2|avx512", "instruction-set level (the best)"),
    ...pick(MODEL, "threads", "dtype"),
    turns: integer("turns of each with --peers (5)"),
    ...under("Results", {
      out: text("DIR", "folder for bench.json and bench.html, written anew after each race (none)"),
    }),
    ...pick(TABLE, "json"),
    ...QUIET,
  },
  permissions: "-A",
  read: readOptions,
  work,
});

if (import.meta.main) await runCommand(command);
