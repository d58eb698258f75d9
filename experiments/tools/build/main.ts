/** `deno task build`: the package's build command, and libraries of a checkout. See `deno task build --help`. */
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { describeFlags, FLAGS, readFlags } from "../../../ffi/build/flags.ts";
import { runBuild } from "../../../ffi/build/mod.ts";
import { runTask } from "../../commands/cli/task.ts";

const OPTIONS = {
  ...FLAGS,
  emulated: { type: "boolean", help: "every level, and the CUDA library's kernels for the CPU: for tests" },
} as const;

export const USAGE = describeFlags("deno task build", OPTIONS);

export async function main(args: readonly string[]): Promise<number> {
  const { force, emulated, help: _, ...flags } = readFlags(args, OPTIONS);
  const options = { force, onProgress: (message: string) => console.error(message) };
  await runBuild(
    { force, all: emulated && flags.level === undefined, ...flags },
    { print: console.log, onProgress: options.onProgress },
  );
  if (!emulated) return 0;
  const { path, cached, warnings } = await buildEmulated(options);
  console.log(`${cached ? "found" : "built"} ${path}`);
  if (warnings !== "") console.error(warnings);
  return 0;
}

if (import.meta.main) await runTask(main, USAGE);
