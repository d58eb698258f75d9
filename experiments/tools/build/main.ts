/** `deno task build`: the package's build command, and libraries of a checkout. See `deno task build --help`. */
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { describeFlags, FLAGS, readFlags } from "../../../ffi/build/flags.ts";
import { runBuild } from "../../../ffi/build/mod.ts";
import { UsageError } from "../../../lib/errors.ts";
import { describeKernels, readTrace } from "./table.ts";
import { runTask } from "../../commands/cli/task.ts";

const OPTIONS = {
  ...FLAGS,
  emulated: { type: "boolean", help: "every level, and the CUDA library's kernels for the CPU: for tests" },
  table: { type: "string", value: "FILE", help: "write what the kernels take to a file; with --cuda" },
  trace: {
    type: "string",
    value: "FILE",
    help:
      "with the occupancy of the launches in a trace (TKF_EMULATOR_TRACE); exit code 1 where a kernel has none",
  },
} as const;

export const USAGE = describeFlags("deno task build", OPTIONS);

export async function main(args: readonly string[]): Promise<number> {
  const { force, emulated, table, trace, help: _, ...flags } = readFlags(args, OPTIONS);
  if ((table !== undefined || trace !== undefined) && !flags.cuda) {
    throw new UsageError("Cannot use --table or --trace: expected --cuda with it");
  }
  const options = { force, onProgress: (message: string) => console.error(message) };
  const cuda = await runBuild(
    { force, all: emulated && flags.level === undefined, ...flags },
    { print: console.log, onProgress: options.onProgress },
  );
  if (emulated) {
    const { path, cached, warnings } = await buildEmulated(options);
    console.log(`${cached ? "found" : "built"} ${path}`);
    if (warnings !== "") console.error(warnings);
  }
  if (cuda === undefined) return 0;
  const launches = trace === undefined
    ? undefined
    : await readTrace(await Deno.readTextFile(trace), (await buildEmulated(options)).path);
  const kernels = await describeKernels(cuda.manifest, launches);
  if (table !== undefined) await Deno.writeTextFile(table, `${kernels.table}\n`);
  else if (!cuda.cached) console.log(kernels.table);
  if (launches === undefined || kernels.idle.length === 0) return 0;
  console.log(`found no launch of ${kernels.idle.join(", ")} in ${trace}: expected a test of every kernel`);
  return 1;
}

if (import.meta.main) await runTask(main, USAGE);
