/** Runs a test file in a process of its own, within a time limit, counts, and summarizes failures. */
import { formatDuration } from "../../commands/cli/output/progress.ts";
import { type GroupOptions, runGroup } from "../machine/process_group.ts";

/** The outcome of a run. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
}

/** Counts of no run. */
export const NO_TESTS: TestCounts = { passed: 0, failed: 0, ignored: 0 };

/** Counts of two runs together. */
export function addCounts(a: TestCounts, b: TestCounts): TestCounts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, ignored: a.ignored + b.ignored };
}

/** The line with the summary of `deno test`. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(.*)$/gm;

/** A text without colours. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replaceAll(/\x1b\[[\d;]*m/g, "");
}

/** Reads the summary of a run; undefined where there is none. */
export function readSummary(output: string): TestCounts | undefined {
  const last = [...plain(output).matchAll(SUMMARY)].at(-1);
  if (last === undefined) return undefined;
  const ignored = last[3]!.match(/\| (\d+) ignored/)?.[1] ?? 0;
  return { passed: Number(last[1]), failed: Number(last[2]), ignored: Number(ignored) };
}

/**
 * Runs a test command to its end, or to the limit (a kernel may wait for ever). A process that ends badly without a
 * failed test counts as one more failure: a crash, no end, an error outside of tests, or a finding of the checker.
 */
export async function runTests(
  command: readonly [string, ...string[]],
  options: GroupOptions,
): Promise<{ readonly counts: TestCounts; readonly output: string }> {
  const { success, output, timedOut } = await runGroup(command, {
    ...options,
    env: { NO_COLOR: "1", ...options.env },
  });
  const counts = readSummary(output) ?? NO_TESTS;
  return {
    counts: !success && counts.failed === 0 ? { ...counts, failed: 1 } : counts,
    output: timedOut
      ? `${output}\nerror: found no end after ${formatDuration(1000 * options.limit)}\n`
      : output,
  };
}

/** Lines of a checker that contain nothing by themselves. */
const IDLE =
  /^========= *(?:COMPUTE-SANITIZER|(?:ERROR|RACECHECK) SUMMARY|$|Saved host backtrace|Host Frame)/;
/** Findings of one run that are shown. */
const MOST_FINDINGS = 8;

/** Failures of a run, one line each: tests with their errors, findings of a checker, the end of the process. */
export function readFailures(output: string): string[] {
  const lines = plain(output).split("\n");
  const found: string[] = [];
  for (const [i, line] of lines.entries()) {
    const test = line.match(/^(.*) => \.\/\S+:\d+:\d+$/)?.[1];
    const error = lines[i + 1]?.match(/^error: (.*)$/)?.[1];
    if (test !== undefined && error !== undefined) found.push(`${test}: ${error}`);
    else if (line.startsWith("=========") && !IDLE.test(line)) found.push(line.replace(/^=+ */, ""));
    else if (line.startsWith("error: found no end")) found.push(line.slice(7));
  }
  if (found.length === 0) {
    const last = lines.findLast((line) => line.trim() !== "");
    if (last !== undefined) found.push(`it ended with: ${last.trim()}`);
  }
  const more = found.length - MOST_FINDINGS;
  return more > 0 ? [...found.slice(0, MOST_FINDINGS), `and ${more} lines more`] : found;
}
