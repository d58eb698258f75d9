/** `deno task completion`: a script by which a shell completes the commands. See `deno task completion --help`. */
import { fileURLToPath } from "node:url";
import { completionScript, SHELLS } from "./cli/completion.ts";
import type { Command } from "./cli/command.ts";
import { readJson } from "./cli/files.ts";
import { runCommand, writeLine } from "./cli/task.ts";
import { type Asked, plainCommand } from "./run.ts";

const ROOT = new URL("../../", import.meta.url);

/** The commands of deno.json that lie in this folder, each with its module's path from the project's folder. */
export async function listCommands(): Promise<{ readonly path: string; readonly command: Command }[]> {
  const { tasks } = await readJson(fileURLToPath(new URL("deno.json", ROOT))) as {
    readonly tasks: { readonly [name: string]: string };
  };
  const paths = Object.values(tasks).flatMap((line) => line.match(/experiments\/commands\/\S+\.ts/) ?? []);
  return await Promise.all(
    paths.map(async (path) => ({ path, command: (await import(new URL(path, ROOT).href)).command })),
  );
}

async function work(shell: (typeof SHELLS)[number]): Promise<void> {
  writeLine(Deno.stdout, completionScript((await listCommands()).map(({ command }) => command), shell));
}

export const command = plainCommand({
  name: "completion",
  summary: "Prints a script by which a shell completes commands, flags and values.",
  usage: SHELLS.join("|"),
  about: `The shell reads it once, as in source <(deno task completion bash), or from a file that its start-up
file names.`,
  examples: [...SHELLS],
  words: {
    least: 1,
    most: 1,
    choices: SHELLS.map((name) => ({ name, help: `a script for ${name}` })),
  },
  flags: {},
  permissions: "-RE",
  read: ({ words: [shell] }: Asked) => shell as (typeof SHELLS)[number],
  work,
});

if (import.meta.main) await runCommand(command);
