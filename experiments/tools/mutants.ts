/**
 * `deno task mutants`: mutation testing of TypeScript and of the CPU kernels. See `deno task mutants --help`.
 * (Faults that are put by hand into CUDA kernels are `kernels/testing/mutants/`.)
 */
import { UsageError } from "../../lib/errors.ts";
import { Interrupt } from "../commands/cli/run/interrupt.ts";
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { type Mutant, SCOPES } from "./mutants/draw.ts";
import type { Outcome } from "./mutants/run.ts";
import { readTimes } from "./mutants/times.ts";
import {
  buildLibraries,
  drawSample,
  LIST,
  type Sample,
  type SampleOptions,
  testSample,
} from "./mutants/tree.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** The exit code if too few mutants were detected, or the list is out of date. */
const EXIT_FAILED = 1;
const DEFAULTS = {
  scope: SCOPES.join(","),
  seed: "1",
  count: "300",
  least: "0.95",
  limit: "120",
  tests: "20",
  jobs: String(Math.max(2, navigator.hardwareConcurrency >> 1)),
} as const;
const TEXTS = ["scope", "seed", "count", "jobs", "least", "limit", "tests", "times"] as const;
/** Outcomes between two lines of progress where there is no terminal. */
const LINE_EVERY = 10;
export const USAGE = `Usage: deno task mutants [flags]

Puts small faults into copies of the tracked files as they are now, one at a time: a comparison's boundary, an operator, a
constant, a condition, a call left out. Runs the tests that depend on the file, nearest first, until one fails. A fault that
no test fails on is a survivor: it is printed, and needs a test. Where nothing can notice it, it needs an entry in
${LIST} with the reason. Faults that do not type-check or compile do not count.
Exit code 0: enough were noticed; 1: too few, or the list is out of date, or a test fails without a mutant.

  --scope ts|cpu|PATH[:LINE],…
      TypeScript, sources of the CPU library, files or folders; all mutants of a line (${DEFAULTS.scope})
  --seed TEXT
      chooses the lines, and one mutant on each (${DEFAULTS.seed})
  --count N
      mutants to draw (${DEFAULTS.count})
  --all
      one on every line
  --least P
      fraction of the valid ones that must be noticed (${DEFAULTS.least})
  --limit SECONDS
      time limit of a test file, which then counts as noticed, until it has passed once (${DEFAULTS.limit})
  --tests N
      test files to run for a mutant, the nearest ones (${DEFAULTS.tests})
  --times FILE.xml
      times of test files, as deno test --junit-path=FILE.xml has written it: among tests as near, quick ones come first
  --jobs N
      mutants at once, each in a copy of its own (half the cores and at least 2)
  --list
      print only the mutants
  --json
      print only JSON on stdout
  --quiet
      no progress on stderr
  --help
      print this`;

type Options = ReturnType<typeof readOptions>;

function readOptions(args: readonly string[]) {
  const { all, ...values } = parseOwnFlags(args, TEXTS, ["all", "list", "json", "quiet"]);
  if (all && values.count !== undefined) {
    throw new UsageError("Cannot use --count with --all: expected one of them");
  }
  const { scope, count, least, limit, tests, jobs, times, ...rest } = { ...DEFAULTS, ...values };
  const share = Number(least);
  if (!(share >= 0 && share <= 1)) {
    throw new UsageError(`Cannot use --least ${least}: expected a fraction from 0 to 1`);
  }
  return {
    ...rest,
    scope: scope.split(","),
    count: all ? Infinity : readInteger("count", count, 1),
    least: share,
    limit: readInteger("limit", limit, 1),
    tests: readInteger("tests", tests, 1),
    jobs: readInteger("jobs", jobs, 1),
    times,
  };
}

/** A mutant in a line. */
function describe({ file, line, before, after }: Mutant): string {
  const short = (text: string) => text.length > 100 ? `${text.slice(0, 97)}...` : text;
  return `${file}:${line}: ${short(before)} → ${short(after)}`;
}

/** Tests a sample. Prints survivors, and mutants that this machine cannot run, as they are found. */
export async function tellSample(
  sample: Sample,
  options: SampleOptions & Pick<Options, "quiet" | "json">,
  signal: AbortSignal,
): Promise<{ outcomes: Outcome[]; broken: ReadonlyMap<string, string> }> {
  const progress = new Progress(options.quiet ? undefined : Deno.stderr), outcomes: Outcome[] = [];
  await buildLibraries((message) => progress.line(message));
  const counts = { noticed: 0, survived: 0, invalid: 0, untested: 0 };
  const broken = await testSample(sample, options, signal, (outcome) => {
    outcomes.push(outcome);
    counts[outcome.result]++;
    const words =
      { survived: "survived", untested: "cannot run here", noticed: "", invalid: "" }[outcome.result];
    if (words !== "" && !options.json) {
      progress.clear();
      writeLine(Deno.stdout, `${words}: ${describe(outcome.mutant)}`);
    }
    const done = counts.noticed + counts.survived;
    const all = sample.mutants.length - counts.invalid - counts.untested;
    if (done === 0) return progress.start(); // types are checked
    const label = `${done} of ${all}, ${counts.survived} survived`;
    progress.bar(done / all, label);
    if (!progress.isTerminal && done % LINE_EVERY === 0) {
      progress.line(`${label}, ${progress.eta(done / all)}`);
    }
  });
  progress.clear();
  return { outcomes, broken };
}

/** Runs the task on the tree at `root`. @returns The exit code. */
export async function main(args: readonly string[], root = ROOT): Promise<number> {
  const options = readOptions(args);
  const sample = await drawSample(options, root);
  if (options.list) {
    sample.mutants.forEach((mutant) => writeLine(Deno.stdout, describe(mutant)));
    return EXIT.ok;
  }
  const seconds = options.times === undefined ? undefined : await readTimes(options.times);
  using interrupt = new Interrupt();
  const { outcomes, broken } = await tellSample(sample, { ...options, seconds }, interrupt.signal);
  if (interrupt.signal.aborted) return interrupt.code;

  const of = (result: Outcome["result"]) => outcomes.filter((outcome) => outcome.result === result);
  const noticed = of("noticed").length, valid = noticed + of("survived").length;
  const { equivalent, stale } = sample, invalid = of("invalid").length, untested = of("untested").length;
  const share = valid === 0 ? 1 : noticed / valid;
  if (options.json) {
    const mutants = outcomes.map(({ mutant: { file, line, source, before, after }, result, by, seconds }) => (
      { file, line, source, before, after, result, by, seconds }
    ));
    writeLine(
      Deno.stdout,
      JSON.stringify(
        { noticed, valid, invalid, untested, equivalent, mutants, stale, broken: Object.fromEntries(broken) },
        null,
        2,
      ),
    );
  } else {
    for (const { file, source } of stale) {
      writeLine(Deno.stdout, `no such mutant any more: ${LIST}: ${file}: ${source}`);
    }
    for (const [test, how] of broken) writeLine(Deno.stdout, `fails without a mutant: ${test}: ${how}`);
    writeLine(
      Deno.stdout,
      `${noticed} of ${valid} valid mutants noticed (${(100 * share).toFixed(1)}%, expected ${
        100 * options.least
      }%); ` +
        `${invalid} invalid, ${equivalent} listed as equivalent` +
        (untested > 0 ? `, ${untested} not tested: this machine cannot run them` : ""),
    );
  }
  return share < options.least || stale.length > 0 || broken.size > 0 ? EXIT_FAILED : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
