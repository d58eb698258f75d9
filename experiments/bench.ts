/**
 * `deno task bench`: how fast the kernels are, beside the machine's roof and PyTorch. Everything is verified before
 * it is timed. See `deno task bench --help`.
 */
import { parseArgs } from "@std/cli/parse-args";
import { nearest, UsageError } from "../mod.ts";
import { buildCpu, ensureBlas } from "../build.ts";
import { type CpuBackend, cpuLevels, openCpu } from "../ffi/mod.ts";
import { attentionInputs, attentionRace } from "./bench/attention.ts";
import { linearRaces } from "./bench/linear.ts";
import { type BenchRow, type Contender, race, type Roof, rowOf } from "./bench/run.ts";
import { scanRace } from "./bench/scan.ts";
import { TorchProcess } from "./bench/torch.ts";
import { expectSwitches } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { formatTable } from "./cli/table.ts";
import { EXIT, runTask, writeLine } from "./cli/task.ts";

const OPS = ["attention", "filter", "linear"];
const SWITCHES = ["json", "quiet", "help"];
const FLAGS = ["threads", "level", "only", ...SWITCHES];
const USAGE = `Usage: deno task bench [flags]

Times filtered attention (dense, half of the tokens skipped, and PyTorch's where python3 or TOKENFILTER_PYTHON has
torch), the filter's recurrence, and SmolLM2's linear layers. Contenders take turns; times are medians of 7 turns.
"roof" is the share reached of what multiply-adds and memory allow on this machine, both measured first.

  --threads N
      threads of all contenders (all cores)
  --level base|avx2|avx512
      instruction-set level (the best)
  --only ${OPS.join("|")}
      one op alone
  --json
      print JSON alone on stdout
  --quiet
      no progress on stderr
  --help
      print this`;

interface Request {
  readonly threads: number;
  readonly level: string | undefined;
  readonly only: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly help: boolean;
}

function readRequest(args: readonly string[]): Request {
  expectSwitches(args, SWITCHES);
  const parsed = parseArgs([...args], {
    string: ["threads", "level", "only"],
    boolean: SWITCHES,
    alias: { help: "h" },
    unknown: (argument: string, name?: string) => {
      const mend = name === undefined ? "expected flags alone" : `the nearest is "--${nearest(name, FLAGS)}"`;
      throw new UsageError(`Cannot use "${argument}": ${mend} (see --help)`);
    },
  });
  const threads = parsed.threads === undefined ? navigator.hardwareConcurrency : Number(parsed.threads);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new UsageError(`Cannot use --threads ${parsed.threads}: expected an integer from 1 to 1024`);
  }
  const { level, only, json, quiet, help } = parsed;
  if (only !== undefined && !OPS.includes(only)) {
    throw new UsageError(`Cannot use --only "${only}": expected one of ${OPS.join(", ")}`);
  }
  return { threads, level, only, json, quiet, help };
}

/** The backend at the asked level, and the level's name. */
async function open({ threads, level }: Request, progress: Progress): Promise<[CpuBackend, string]> {
  const onProgress = (message: string) => progress.line(message);
  await Promise.all([buildCpu({ onProgress }), ensureBlas({ onProgress })]);
  const levels = await cpuLevels();
  const chosen = level ?? (Deno.env.get("TOKENFILTER_LEVEL") || levels.at(-1)!);
  if (!levels.includes(chosen)) {
    throw new UsageError(`Cannot use --level "${chosen}": this machine has ${levels.join(", ")}`);
  }
  return [await openCpu({ threads, level: chosen }), chosen];
}

/** All races, one after the other: each is made when its turn comes, so that its memory can go before the next. */
async function* races(
  { only }: Request,
  backend: CpuBackend,
  impl: string,
  torch: TorchProcess | undefined,
): AsyncGenerator<Contender[]> {
  const wants = (op: string) => only === undefined || only === op;
  if (wants("attention")) {
    const inputs = attentionInputs();
    for (const phase of ["prefill", "decode"] as const) {
      yield await attentionRace(backend, impl, inputs, phase, torch);
    }
  }
  if (wants("filter")) {
    for (const phase of ["prefill", "decode"] as const) yield scanRace(backend, impl, phase);
  }
  if (wants("linear")) yield* linearRaces(backend, impl);
}

function describe(rows: readonly BenchRow[]): string {
  const table = formatTable({
    columns: ["op", "impl", "phase", "shape", "dtype", "skip", "recent", "ms", "GFLOP/s", "GB/s", "roof"],
    left: [true, true, true, true, true, false, false, false, false, false, false],
    rows: rows.map((r) => [
      r.op,
      r.impl,
      r.phase,
      r.shape,
      r.dtype,
      r.skip.toString(),
      r.recent?.toString() ?? "",
      r.timeMs.toPrecision(4),
      r.gflops.toFixed(1),
      r.gbps.toFixed(1),
      r.roof.toFixed(2),
    ]),
  });
  return [table, ...compare(rows)].join("\n");
}

/** What the attention rows say: the saving, and how we stand beside PyTorch. */
function* compare(rows: readonly BenchRow[]): Generator<string> {
  for (const phase of ["prefill", "decode"]) {
    const of = rows.filter((r) => r.op === "filtered_attention" && r.phase === phase);
    const own = of.filter((r) => !r.impl.startsWith("torch"));
    const dense = own.find((r) => r.skip === 0);
    if (dense === undefined) continue;
    const parts = own.filter((r) => r.skip > 0).map((r) =>
      `${(r.timeMs / dense.timeMs).toFixed(3)} of dense at ${r.skip} skipped, recent ${r.recent}`
    );
    const others = of.filter((r) => r.impl.startsWith("torch")).map((r) => r.timeMs);
    if (others.length > 0) {
      parts.push(`dense at ${(Math.min(...others) / dense.timeMs).toFixed(2)} times PyTorch's speed`);
    }
    yield `${phase}: ${parts.join("; ")}`;
  }
}

async function main(args: readonly string[]): Promise<number> {
  const request = readRequest(args);
  if (request.help) {
    writeLine(Deno.stdout, USAGE);
    return EXIT.ok;
  }
  const progress = new Progress(request.quiet ? undefined : Deno.stderr);
  const [backend, level] = await open(request, progress);
  progress.line(backend.description);
  const started = request.only === undefined || request.only === "attention"
    ? await TorchProcess.start(request.threads)
    : undefined;
  if (typeof started === "string") progress.line(`no PyTorch beside us: ${started}`);
  const torch = typeof started === "string" ? undefined : started;
  const measured: [Parameters<typeof rowOf>[0], number][] = [];
  const roofs: Roof[] = [backend.measureMachine()];
  try {
    for await (const contenders of races(request, backend, `cpu ${level}`, torch)) {
      const { op, phase, shape, dtype } = contenders[0]!;
      progress.line(`${op}, ${phase}, ${shape}, ${dtype}`);
      const times = await race(contenders);
      // Of a contender, its words and counts alone: its tensors may go.
      contenders.forEach(({ verify: _, time: __, ...words }, i) => measured.push([words, times[i]!]));
      roofs.push(backend.measureMachine());
    }
  } finally {
    await torch?.close();
  }
  // Whatever else runs on the machine can only lower a measurement of the roof.
  const roof: Roof = {
    flopsPerSecond: Math.max(...roofs.map((r) => r.flopsPerSecond)),
    bytesPerSecond: Math.max(...roofs.map((r) => r.bytesPerSecond)),
  };
  progress.line(
    `roof: ${(roof.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s of multiply-adds, ` +
      `${(roof.bytesPerSecond / 1e9).toFixed(1)} GB/s from memory`,
  );
  const rows = measured.map(([contender, timeMs]) => rowOf(contender, timeMs, roof));
  writeLine(Deno.stdout, request.json ? JSON.stringify(rows, null, 2) : describe(rows));
  return EXIT.ok;
}

if (import.meta.main) await runTask(main);
