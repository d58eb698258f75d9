/**
 * `deno task test:gpu`: the tests of the CUDA library on the first GPU, with the cases that the emulator runs.
 * See `deno task test:gpu --help`.
 */
import { UsageError } from "../mod.ts";
import { buildArchOf, openDriver } from "../ffi/mod.ts";
import { buildCuda } from "../build.ts";
import { parseOwnFlags } from "./cli/parse.ts";
import { formatDuration, Progress } from "./cli/progress.ts";
import { readStdFlags } from "./cli/std_flags.ts";
import { EXIT, runTask, writeLine } from "./cli/task.ts";
import { commandOf, findSanitizer, listGpuTests, type Part, PARTS } from "./test_gpu/plan.ts";
import { runTests, type TestCounts } from "./test_gpu/run.ts";

/** The exit code where a test failed. */
const EXIT_FAILED = 1;
const SWITCHES = ["help"] as const;
const USAGE = `Usage: deno task test:gpu [flags]

Builds the CUDA library for the first GPU (CUDA_VISIBLE_DEVICES chooses which is first) and runs every test of the
kernels and of the driver's wrapper on it, with the cases that the emulator runs elsewhere. Then, where
compute-sanitizer is on PATH or in CUDA_HOME, the kernels' tests again under its memcheck, and those with small cases
under its racecheck. Exit code 0: all passed; 1: a test failed or a check found something; 2: no GPU, or no build.

  --only ${PARTS.join("|")}
      one part alone
  --help
      print this`;

function readOnly(args: readonly string[]): Part | "help" | undefined {
  const { only, help } = parseOwnFlags(args, ["only"], SWITCHES);
  if (help) return "help";
  const part = PARTS.find((part) => part === only);
  if (only !== undefined && part === undefined) {
    throw new UsageError(`Cannot use --only "${only}": expected one of ${PARTS.join(", ")}`);
  }
  return part;
}

/** Counts in words. */
export function describeCounts({ passed, failed, ignored }: TestCounts): string {
  return `${passed} passed, ${failed} failed${ignored > 0 ? `, ${ignored} ignored` : ""}`;
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const only = readOnly(args);
  if (only === "help") {
    writeLine(Deno.stdout, USAGE);
    return EXIT.ok;
  }
  const progress = new Progress(Deno.stderr);
  const driver = openDriver(), device = driver.device(0);
  const { manifest } = await buildCuda({
    archs: [buildArchOf(device.arch)],
    onProgress: (message) => progress.line(message),
  });
  // A driver runs what was built for its own major version, later minor ones included.
  driver.expectVersion(1000 * Number.parseInt(manifest.nvcc));
  const version = `${Math.floor(driver.version / 1000)}.${Math.floor(driver.version % 1000 / 10)}`;
  progress.line(
    `${device.name}, sm_${device.arch}, driver for CUDA ${version}, nvcc ${manifest.nvcc}, ` +
      `commit ${manifest.git ?? "unknown"}`,
  );
  const sanitizer = await findSanitizer();
  const wanted = PARTS.filter((part) => only === undefined || only === part);
  const parts = wanted.filter((part) => part === "tests" || sanitizer !== undefined);
  const files = await listGpuTests(), stdFlags = await readStdFlags();
  const total = { passed: 0, failed: 0, ignored: 0 };
  const lines: string[] = [];
  for (const part of parts) {
    const started = performance.now();
    progress.line(`running ${part} (${parts.indexOf(part) + 1} of ${parts.length})`);
    const counts = await runTests({
      command: commandOf(part, files, stdFlags, sanitizer ?? ""),
      cwd: new URL("../", import.meta.url),
      env: { TOKENFILTER_TEST_DEVICE: "cuda" },
      onOutput: (bytes) => {
        for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
      },
    });
    for (const name of ["passed", "failed", "ignored"] as const) total[name] += counts[name];
    lines.push(`${part}: ${describeCounts(counts)} in ${formatDuration(performance.now() - started)}`);
  }
  lines.forEach((line) => writeLine(Deno.stdout, line));
  const left = wanted.filter((part) => !parts.includes(part));
  if (left.length > 0) {
    writeLine(
      Deno.stdout,
      `not run: ${left.join(", ")} (found no compute-sanitizer on PATH or in CUDA_HOME)`,
    );
  }
  writeLine(Deno.stdout, `${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 || total.passed === 0 ? EXIT_FAILED : EXIT.ok;
}

if (import.meta.main) await runTask(main);
