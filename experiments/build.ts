/**
 * `deno task build`: the package's build command, and what only a checkout needs.
 *
 * ```sh
 * deno task build --emulated       # also the CUDA library's kernels, for tests on the CPU
 * deno task build --cuda           # also the CUDA library, and what its kernels take
 * deno task build --cuda --table   # and renews the table in kernels/README.md; exit status 1 where it was old
 * ```
 */
import { runBuild } from "../build.ts";
import { buildEmulated } from "../ffi/build/emulated_testing.ts";
import { FLAGS, readFlags } from "../ffi/build/flags.ts";
import { UsageError } from "../lib/errors.ts";
import { describeKernels, readTrace, renewTable } from "./build/table.ts";
import { runTask } from "./cli/task.ts";

const OPTIONS = {
  ...FLAGS,
  emulated: { type: "boolean" },
  table: { type: "boolean" },
  trace: { type: "string" },
} as const;

/** Runs the task; its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { force, emulated, table, trace, ...flags } = readFlags(args, OPTIONS);
  if (table && (!flags.cuda || flags.arch !== undefined)) {
    throw new UsageError("Cannot use --table: expected --cuda, and no --arch, beside it");
  }
  if (trace !== undefined && !table) {
    throw new UsageError("Cannot use --trace: expected --cuda and --table beside it");
  }
  const options = { force, onProgress: (message: string) => console.error(message) };
  const cuda = await runBuild({ force, ...flags });
  if (emulated) {
    const { path, cached, warnings } = await buildEmulated(options);
    console.log(`${cached ? "found" : "built"} ${path}`);
    if (warnings !== "") console.error(warnings);
  }
  if (cuda === undefined) return 0;
  if (!cuda.cached) console.log(await describeKernels(cuda.manifest));
  if (!table) return 0;
  const launches = trace === undefined
    ? undefined
    : await readTrace(await Deno.readTextFile(trace), (await buildEmulated(options)).path);
  const upToDate = await renewTable(cuda.manifest, launches);
  console.log(`kernels/README.md: ${upToDate ? "its table is up to date" : "its table was old; renewed"}`);
  return upToDate || trace !== undefined ? 0 : 1;
}

if (import.meta.main) await runTask(main);
