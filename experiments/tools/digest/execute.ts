/** Runs the project's tasks as deno.json defines them. */
import { type Finished, run } from "../../../ffi/build/command.ts";
import { readStdFlags } from "../../commands/cli/machine/deno.ts";

/** Variables that change the behavior of a task: no run takes them from outside. */
const OWN_VARIABLES = /^((TOKENFILTER|OPENBLAS|TKF|FAKE)_(?!CACHE$)|NO_COLOR$|FORCE_COLOR$)/;

/** Time limit of a run in seconds: a longer one waits for something that never comes. */
const PATIENCE_S = 300;

/** The project's folder. */
export const ROOT = new URL("../../../", import.meta.url).pathname;

/** Variables of the environment. */
export type Env = { readonly [name: string]: string };

/** Something to run: a task of deno.json, or a script of the project. */
export type Target = { readonly task: string } | { readonly script: URL };

/** The project's tasks. */
export interface Tasks {
  /** The package's version. */
  readonly version: string;
  /** Runs a target to its end. @throws {Error} If it takes longer than `patienceS` seconds. */
  run(target: Target, args: readonly string[], env?: Env, patienceS?: number): Promise<Finished>;
}

/** Reads deno.json. @param root folder of the project, with a slash at its end */
export async function openTasks(root = ROOT): Promise<Tasks> {
  const { version, tasks } = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
  const stdFlags = await readStdFlags();
  const inherited = Object.entries(Deno.env.toObject()).filter(([name]) => !OWN_VARIABLES.test(name));
  /** Arguments of Deno for a target. @throws {RangeError} If a task is not one `deno` command and the flags of `@std`. */
  const argumentsOf = (target: Target): string[] => {
    if ("script" in target) return ["run", "-A", ...stdFlags, target.script.pathname];
    const command: string = tasks[target.task] ?? "nothing";
    const words = command.replace(/\$\([^)]*\.std\/flags\.ts\)/, stdFlags.join(" ")).split(/\s+/);
    if (words[0] === "deno" && !words.some((word) => /[$&|;<>"'()]/.test(word))) return words.slice(1);
    throw new RangeError(`Cannot run task "${target.task}": found ${command}, expected one deno command`);
  };
  return {
    version,
    async run(target, args, env = {}, patienceS = PATIENCE_S) {
      const all = [...argumentsOf(target), ...args], signal = AbortSignal.timeout(1000 * patienceS);
      const own = { ...Object.fromEntries(inherited), NO_COLOR: "1", ...env };
      const finished = await run(Deno.execPath(), all, { cwd: root, clearEnv: true, env: own, signal });
      if (!signal.aborted) return finished;
      throw new Error(`Cannot wait for deno ${all.join(" ")}: it took over ${patienceS} s`);
    },
  };
}
