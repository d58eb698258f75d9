/** `deno task doctor`: the parts of this machine, and a command for each missing one. See `deno task doctor --help`. */
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { type Check, CHECKS } from "./doctor/checks.ts";

/** The exit code where something is missing that everything needs. */
const EXIT_LACKING = 1;

export const USAGE = `Usage: deno task doctor [flags]

Checks the parts that tasks use: Deno, compiler, CPU library and its levels, BLAS, GPU, nvcc, Python and its packages, Chromium,
Jupyter, the cache, the model hub and package registries. A self-test scores a text by the model tiny, and compares the losses
with those of transformers. Each part has a line: ok, or the reason, its use, and a command. Nothing is installed or built.
Exit code 1: a part that all tasks need is missing.

  --offline
      ask no host
  --json
      print only JSON on stdout
  --help
      print this`;

/** The result of a check. */
export interface Finding {
  readonly name: string;
  readonly state: "ok" | "missing" | "broken";
  readonly found: string;
  readonly use?: string;
  readonly fix?: string;
}

/** Runs a check. A missing part that everything needs is called broken. */
export async function examine({ name, use, fix, look }: Check, progress?: Progress): Promise<Finding> {
  using _ticking = progress?.tick(`Looking for ${name}`);
  try {
    return { name, state: "ok", found: await look() };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const found = error.message.trim().replaceAll(/\s*\n\s*/g, "; ");
    return {
      name,
      state: use === undefined ? "broken" : "missing",
      found,
      ...(use !== undefined && { use }),
      fix,
    };
  }
}

/** A finding in a line. */
export function describeFinding({ name, state, found, use, fix }: Finding): string {
  const rest = fix === undefined ? "" : `${use === undefined ? "" : ` (for ${use})`}. Type: ${fix}`;
  return `${state.padEnd(8)}${name}: ${found}${rest}`;
}

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { offline, json } = parseOwnFlags(args, [], ["offline", "json"]);
  const progress = new Progress(Deno.stderr), findings: Finding[] = [];
  for (const check of CHECKS.filter(({ online }) => !(offline && online))) {
    findings.push(await examine(check, progress));
    if (!json) writeLine(Deno.stdout, describeFinding(findings.at(-1)!));
  }
  if (json) writeLine(Deno.stdout, JSON.stringify(findings));
  return findings.some(({ state }) => state === "broken") ? EXIT_LACKING : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
