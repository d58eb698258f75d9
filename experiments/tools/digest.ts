/**
 * `deno task digest`: records the behavior of a fixed list of runs in one file, and prints differences from an earlier
 * file. It is the gate for changes that must change nothing. See `deno task digest --help`.
 */
import { inParallel } from "../../ffi/build/command.ts";
import { UsageError } from "../../lib/errors.ts";
import { exists, expectWritableFile, makeFolder, readJson, writeWhole } from "../commands/cli/files.ts";
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import {
  compareDigests,
  type Comparison,
  type Difference,
  differingTools,
  type Digest,
  FORMAT,
} from "./digest/compare.ts";
import { openTasks, ROOT, type Tasks } from "./digest/execute.ts";
import { formatDigest } from "./digest/format.ts";
import { writeInputs } from "./digest/inputs.ts";
import { type Machine, openMachine } from "./digest/machine.ts";
import type { Names } from "./digest/normalize.ts";
import { type Facets, facetsOfPath, facetsOfProcess, withoutRepeats } from "./digest/outputs.ts";
import type { Run } from "./digest/run.ts";
import { listRuns } from "./digest/runs.ts";

export const USAGE = `Usage: deno task digest [flags]

Runs a fixed list of commands on tiny and writes their decisions, losses, records, texts and exit codes to one file.
With --against prints the differences from an earlier file: run, facet, first part that differs, before and after.

  --out FILE.json
      where the digest goes (results/digest.json)
  --against FILE.json|DIR
      a digest to compare with; of a folder the one of this instruction-set level, compiler and arithmetic, if any
  --only TEXT
      only runs whose names contain TEXT, and those that they need
  --cpu
      no runs on the emulated CUDA library; --against does not compare them
  --rounded
      let numbers differ by rounding; so it is anyway where another compiler or arithmetic made FILE.json
  --help
      print this

Exit code 1: something differs.`;

/** Exit code of a digest that differs. */
const DIFFERS = 1;

/** Runs the list, as many runs at once as there are cores. @param folder for inputs and results */
async function makeDigest(
  tasks: Tasks,
  machine: Machine,
  folder: string,
  only: string,
  progress: Progress,
): Promise<Digest> {
  writeInputs(folder);
  const names: Names = [[folder, "TMP"], [ROOT, "ROOT/"], [tasks.version, "VERSION"]];
  const stages = listRuns(machine);
  const isMeant = ({ name, needs }: Run) =>
    name.includes(only) && (needs === undefined || machine.has.includes(needs));
  const last = stages[1].filter(isMeant);
  // Runs of the second stage read outputs of the first one.
  const first = stages[0].filter((run) => isMeant(run) || last.length > 0 && run.output !== undefined);
  const found = new Map<string, Facets>(), total = first.length + last.length;
  progress.start();
  const work = async (run: Run) => {
    const args = run.args.map((arg) => arg.replaceAll("TMP/", `${folder}/`));
    const finished = await tasks.run(run.target, args, { ...machine.env, ...run.env });
    const path = `${folder}/${run.output}`;
    const files = exists(path) ? await facetsOfPath(path, names) : {};
    const needs: Facets = run.needs === undefined ? {} : { needs: run.needs };
    found.set(run.name, withoutRepeats({ ...needs, ...facetsOfProcess(finished, names), ...files }));
    progress.step(found.size / total, `${found.size}/${total} runs`);
  };
  for (const stage of [first, last]) await inParallel(stage, work);
  progress.clear();
  const runs = stages.flat().filter(isMeant).map(({ name }) => [name, found.get(name)!] as const);
  return {
    format: FORMAT,
    level: machine.level,
    has: machine.has,
    madeWith: machine.madeWith,
    runs: Object.fromEntries(runs),
  };
}

/** The digest to compare with. For a folder, undefined with a message if it has none that must be equal. */
async function readDigest(path: string, { level, madeWith }: Machine): Promise<Digest | undefined> {
  const isFolder = Deno.statSync(path).isDirectory, none = `Nothing to compare with in "${path}"`;
  const file = isFolder ? `${path}/${level.replaceAll(" ", "_")}.json` : path;
  if (isFolder && !exists(file)) {
    writeLine(Deno.stdout, `${none}: found no digest of ${level}`);
    return undefined;
  }
  const digest = await readJson(file) as Digest | null;
  if (digest?.format !== FORMAT) {
    throw new UsageError(
      `Cannot use "${file}": found format ${digest?.format}, expected a digest of format ${FORMAT}`,
    );
  }
  if (digest.level !== level) {
    throw new UsageError(
      `Cannot compare with "${file}": found a digest of ${digest.level}, expected ${level}`,
    );
  }
  const others = differingTools(digest.madeWith, madeWith);
  if (!isFolder || others.length === 0) return digest;
  const [was, is] = [digest.madeWith, madeWith].map((tools) =>
    others.map((tool) => `${tool} ${tools[tool]}`).join(", ")
  );
  writeLine(Deno.stdout, `${none}: found a digest of ${was}, expected ${is}`);
  return undefined;
}

function describe({ run, facet, path, before, after }: Difference): string {
  const place = [facet, path].filter((part) => part !== "").join(", ");
  return [run, ...(place === "" ? [] : [`  ${place}`]), `    before: ${before}`, `    after:  ${after}`].join(
    "\n",
  );
}

function tell({ differences, compared, lacking, otherTools }: Comparison): void {
  const say = (text: string) => writeLine(Deno.stdout, text);
  if (otherTools.length > 0) {
    say(`Numbers are compared to rounding: another ${otherTools.join(", another ")}`);
  }
  if (lacking.length > 0) say(`Not compared, as one of the machines lacks it: ${lacking.join(", ")}`);
  differences.forEach((difference) => say(describe(difference)));
  const differing = new Set(differences.map(({ run }) => run)).size;
  say(
    differences.length === 0
      ? `${compared} runs, no difference`
      : `${differing} of ${compared} runs differ, in ${differences.length} parts`,
  );
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { out = "results/digest.json", against, only = "", rounded, cpu } = parseOwnFlags(
    args,
    ["out", "against", "only"],
    ["rounded", "cpu"],
  );
  if (out.includes("/")) makeFolder(out.replace(/\/[^/]*$/, "") || "/");
  expectWritableFile(out);
  if (against !== undefined && !exists(against)) {
    throw new UsageError(`Cannot compare with "${against}": there is no such file or folder`);
  }
  const progress = new Progress(Deno.stderr);
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-digest-" });
  try {
    const tasks = await openTasks();
    progress.line("Building what is missing.");
    const isEmulated = ({ name, needs }: Run) => needs === "emulated CUDA" && name.includes(only);
    const wantsEmulated = !cpu && listRuns({ blas: undefined, blasEnv: {} }).flat().some(isEmulated);
    const machine = await openMachine(tasks, folder, wantsEmulated);
    const before = against === undefined ? undefined : await readDigest(against, machine);
    const digest = await makeDigest(tasks, machine, folder, only, progress);
    await writeWhole(out, formatDigest(digest));
    writeLine(Deno.stdout, `${Object.keys(digest.runs).length} runs on ${digest.level}: ${out}`);
    if (before === undefined) return EXIT.ok;
    const comparison = compareDigests(before, digest, only, rounded);
    tell(comparison);
    return comparison.differences.length > 0 ? DIFFERS : EXIT.ok;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) await runTask(main, USAGE);
