/**
 * `deno task digest`: what a fixed list of runs does, in one file, and what differs from an earlier file. The gate of
 * changes that must change nothing. See `deno task digest --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { exists, makeFolder, readJson, writeWhole } from "./cli/files.ts";
import { parseOwnFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { EXIT, runTask, writeLine } from "./cli/task.ts";
import { compareRuns, type Difference, type Digest } from "./digest/compare.ts";
import { ROOT, Tasks } from "./digest/execute.ts";
import { formatDigest } from "./digest/format.ts";
import { writeInputs } from "./digest/inputs.ts";
import { openMachine } from "./digest/machine.ts";
import type { Names } from "./digest/normalize.ts";
import {
  type Facets,
  facetsOfFile,
  facetsOfFolder,
  facetsOfProcess,
  withoutRepeats,
} from "./digest/outputs.ts";
import { listRuns, type Run } from "./digest/runs.ts";

const USAGE = `Usage: deno task digest [flags]

Runs a fixed list of commands on tiny and writes their decisions, losses, records, texts and exit codes to one file.
With --against says what differs from an earlier file: run, facet, first part that differs, before and after.

  --out FILE.json
      where the digest goes (results/digest.json)
  --against FILE.json|DIR
      a digest to compare with; of a folder the one of this machine's instruction-set level, where there is one
  --only TEXT
      runs alone whose names hold TEXT, and those that they need
  --rounded
      let numbers differ by rounding; so it is anyway where another compiler or Deno made the other digest
  --jobs N
      runs at once (all cores)
  --help
      print this

Exit code 1: something differs.`;

/** Exit code of a digest that differs. */
const DIFFERS = 1;

/** Runs a list, some at once; what each left, in the order of the list. */
async function execute(
  runs: readonly Run[],
  jobs: number,
  work: (run: Run) => Promise<Facets>,
  onDone: () => void,
): Promise<Facets[]> {
  const results: Facets[] = new Array(runs.length);
  let next = 0;
  await Promise.all(Array.from({ length: jobs }, async () => {
    while (next < runs.length) {
      const i = next++;
      results[i] = await work(runs[i]!);
      onDone();
    }
  }));
  return results;
}

async function makeDigest(
  folder: string,
  only: string,
  jobs: number,
  progress: Progress,
): Promise<Digest> {
  writeInputs(folder);
  const tasks = await Tasks.open();
  progress.line("Building what is missing.");
  const machine = await openMachine(tasks, folder);
  const names: Names = [[folder, "TMP"], [ROOT, "ROOT/"], [tasks.version, "VERSION"]];
  const blas = machine.has.find((name) => name.includes("=="));
  const stages = listRuns({ blas, blasEnv: machine.blasEnv });
  const isMeant = ({ name, needs }: Run) =>
    name.includes(only) && (needs === undefined || machine.has.includes(needs));
  const last = stages[1].filter(isMeant);
  // What a run of the second stage reads, the first one must have left.
  const first = stages[0].filter((run) => isMeant(run) || last.length > 0 && run.output !== undefined);
  let done = 0;
  const total = first.length + last.length;
  progress.start();
  const runOne = async (run: Run) => {
    const args = run.args.map((arg) => arg.replaceAll("TMP/", `${folder}/`));
    const finished = await tasks.run(run.target, args, { ...machine.env, ...run.env });
    const facets = facetsOfProcess(finished, names);
    if (run.output === undefined || !exists(`${folder}/${run.output}`)) return facets;
    const path = `${folder}/${run.output}`;
    const isFolder = Deno.statSync(path).isDirectory;
    return { ...facets, ...await (isFolder ? facetsOfFolder(path, names) : facetsOfFile(path, names)) };
  };
  const onDone = () => progress.bar(++done / total, `${done}/${total} runs`);
  const runs: Record<string, Facets> = {};
  for (const stage of [first, last]) {
    const results = await execute(stage, jobs, runOne, onDone);
    stage.forEach(({ name }, i) => name.includes(only) && (runs[name] = withoutRepeats(results[i]!)));
  }
  progress.clear();
  return { format: 1, level: machine.level, has: machine.has, madeWith: machine.madeWith, runs };
}

/** The digest to compare with; undefined where a folder has none of this level. */
async function readDigest(path: string, level: string): Promise<Digest | undefined> {
  const isFolder = exists(path) && Deno.statSync(path).isDirectory;
  const file = isFolder ? `${path}/${level.replaceAll(" ", "_")}.json` : path;
  if (isFolder && !exists(file)) return undefined;
  const digest = await readJson(file) as Digest;
  if (digest?.format !== 1) throw new UsageError(`Cannot use "${file}": expected a file of deno task digest`);
  if (digest.level === level) return digest;
  throw new UsageError(`Cannot compare with "${file}": found a digest of ${digest.level}, expected ${level}`);
}

function describe({ run, facet, path, before, after }: Difference): string {
  return `${run}\n  ${
    [facet, path].filter((part) => part !== "").join(", ")
  }\n    before: ${before}\n    after:  ${after}`;
}

/** Says what differs. @returns Whether something does. */
function compare(before: Digest, after: Digest, only: string, rounded: boolean): boolean {
  const tools = Object.keys(after.madeWith).filter((tool) => before.madeWith[tool] !== after.madeWith[tool]);
  for (const tool of tools) {
    writeLine(
      Deno.stdout,
      `Numbers compared to rounding: ${tool} was ${before.madeWith[tool]}, is ${after.madeWith[tool]}`,
    );
  }
  const lost = before.has.filter((name) => !after.has.includes(name));
  const needs = new Map(
    listRuns({ blas: "BLAS", blasEnv: {} }).flat().map(({ name, needs }) => [name, needs]),
  );
  const skipped: string[] = [];
  const held = Object.entries(before.runs).filter(([name]) => {
    if (!name.includes(only)) return false;
    const need = needs.get(name);
    const isLost = need !== undefined &&
      lost.some((what) => what === need || need === "BLAS" && what.includes("=="));
    if (isLost) skipped.push(name);
    return !isLost;
  });
  if (skipped.length > 0) {
    writeLine(Deno.stdout, `Not compared, as this machine lacks ${lost.join(", ")}: ${skipped.length} runs`);
  }
  const differences = compareRuns(Object.fromEntries(held), after.runs, rounded || tools.length > 0);
  differences.forEach((difference) => writeLine(Deno.stdout, describe(difference)));
  const runs = new Set(differences.map(({ run }) => run)).size;
  writeLine(
    Deno.stdout,
    differences.length === 0
      ? `${held.length} runs, no difference`
      : `${differences.length} differences in ${runs} of ${held.length} runs`,
  );
  return differences.length > 0;
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { out, against, only = "", jobs, rounded, help } = parseOwnFlags(
    args,
    ["out", "against", "only", "jobs"],
    ["rounded", "help"],
  );
  if (help) {
    writeLine(Deno.stdout, USAGE);
    return EXIT.ok;
  }
  if (jobs !== undefined && !/^[1-9]\d*$/.test(jobs)) {
    throw new UsageError(`Cannot use --jobs ${jobs}: expected an integer of at least 1`);
  }
  if (against !== undefined && !exists(against)) {
    throw new UsageError(`Cannot compare with "${against}": there is no such file or folder`);
  }
  const file = out ?? "results/digest.json";
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-digest-" });
  try {
    const digest = await makeDigest(
      folder,
      only,
      Number(jobs ?? navigator.hardwareConcurrency),
      new Progress(Deno.stderr),
    );
    if (file.includes("/")) makeFolder(file.replace(/\/[^/]*$/, "") || "/");
    await writeWhole(file, formatDigest(digest));
    writeLine(Deno.stdout, `${Object.keys(digest.runs).length} runs on ${digest.level}: ${file}`);
    if (against === undefined) return EXIT.ok;
    const before = await readDigest(against, digest.level);
    if (before === undefined) {
      writeLine(Deno.stdout, `Nothing to compare with: ${against} has no digest of ${digest.level}`);
      return EXIT.ok;
    }
    return compare(before, digest, only, rounded) ? DIFFERS : EXIT.ok;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) await runTask(main);
