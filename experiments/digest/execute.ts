/** Running the project's tasks as deno.json defines them, wherever their files lie. */
import { readStdFlags } from "../cli/deno.ts";
import { finish, type Finished } from "../testing.ts";

/** Variables that change what a task does: no run takes them from outside. */
const OWN_VARIABLES = /^((TOKENFILTER|OPENBLAS|TKF|FAKE)_(?!CACHE$)|NO_COLOR$|FORCE_COLOR$)/;

/** Seconds after which a run is ended: it waits for something, and will not end by itself. */
const PATIENCE_S = 300;

/** The project's folder. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** Variables of the environment. */
export type Env = { readonly [name: string]: string };

/** What can be run: a task of deno.json, or a script of the project. */
export type Target = { readonly task: string } | { readonly script: URL };

/** The project's tasks. */
export class Tasks {
  readonly #stdFlags: readonly string[];
  readonly #commands: { readonly [task: string]: string };
  readonly #env: Env;
  readonly #root: string;
  /** The package's version. */
  readonly version: string;

  /** Use {@linkcode Tasks.open}. */
  private constructor(
    root: string,
    config: { tasks: { [task: string]: string }; version: string },
    stdFlags: string[],
  ) {
    this.#root = root;
    this.#commands = config.tasks;
    this.version = config.version;
    this.#stdFlags = stdFlags;
    const inherited = Object.entries(Deno.env.toObject()).filter(([name]) => !OWN_VARIABLES.test(name));
    this.#env = { ...Object.fromEntries(inherited), NO_COLOR: "1" };
  }

  /** Reads deno.json. @param root folder of the project, with a slash at its end */
  static async open(root = ROOT): Promise<Tasks> {
    return new Tasks(root, JSON.parse(await Deno.readTextFile(`${root}deno.json`)), await readStdFlags());
  }

  /** Arguments of Deno for a target. @throws {RangeError} If a task is not one `deno` command and the flags of `@std`. */
  #arguments(target: Target): string[] {
    if ("script" in target) return ["run", "-A", ...this.#stdFlags, target.script.pathname];
    const command = this.#commands[target.task] ?? "nothing";
    const words = command.replace(/\$\([^)]*\.std\/flags\.ts\)/, this.#stdFlags.join(" ")).split(/\s+/);
    if (words[0] === "deno" && !words.some((word) => /[$&|;<>"'()]/.test(word))) return words.slice(1);
    throw new RangeError(`Cannot run task "${target.task}": found ${command}, expected one deno command`);
  }

  /** Runs a target to its end. @throws {Error} If it takes longer than `patienceS` seconds. */
  async run(
    target: Target,
    args: readonly string[],
    env: Env = {},
    patienceS = PATIENCE_S,
  ): Promise<Finished> {
    const all = [...this.#arguments(target), ...args], signal = AbortSignal.timeout(1000 * patienceS);
    const command = new Deno.Command(Deno.execPath(), {
      args: all,
      cwd: this.#root,
      clearEnv: true,
      env: { ...this.#env, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal,
    });
    const finished = await finish(command.spawn());
    if (!signal.aborted) return finished;
    throw new Error(`Cannot wait for deno ${all.join(" ")}: it took over ${patienceS} s`);
  }
}
