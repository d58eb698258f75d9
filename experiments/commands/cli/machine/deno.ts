/** Runs Deno, for the parts of a task that need another process. */
import { run } from "../../../../ffi/build/command.ts";
import { UsageError } from "../../../../lib/errors.ts";

const ROOT = new URL("../../../../", import.meta.url);

/** Runs Deno in the project's folder and returns its output. @throws {UsageError} `Cannot ${what}`, if it fails. */
export async function runDeno(what: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await run(Deno.execPath(), args, { cwd: ROOT, env: { NO_COLOR: "1" } });
  if (success) return stdout;
  const reason = stderr.match(/^error: (.*)$/m)?.[1] ?? stderr.trim().split("\n").at(-1);
  throw new UsageError(`Cannot ${what}: ${reason}`);
}

/** Deno's arguments for a task of deno.json, up to the task's own. */
export async function taskArguments(task: string): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  return tasks[task].split(/\s+/).slice(1);
}
