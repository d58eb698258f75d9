/** `deno task build`: the package's build command, in a checkout. See `deno task build --help`. */
import { describeFlags, FLAGS, readFlags } from "../../../ffi/build/flags.ts";
import { runBuild } from "../../../ffi/build/mod.ts";
import { runTask } from "../../commands/cli/task.ts";

export const USAGE = describeFlags("deno task build", FLAGS);

export async function main(args: readonly string[]): Promise<number> {
  const { help: _, ...flags } = readFlags(args, FLAGS);
  await runBuild(flags, { print: console.log, onProgress: console.error });
  return 0;
}

if (import.meta.main) await runTask(main, USAGE);
