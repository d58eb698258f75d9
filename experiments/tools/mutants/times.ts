/**
 * Durations of test files, as an earlier run has recorded them.
 * `deno run -R experiments/tools/mutants/times.ts FILE.xml [N]` prints the N slowest (30).
 */
import { UsageError } from "../../../lib/errors.ts";
import { readText } from "../../commands/cli/files.ts";

/**
 * Reads a report that `deno test --junit-path=FILE` has written.
 *
 * @returns Seconds by test file, steps counted as tests; by source file those of the examples of its documentation.
 * @throws {UsageError} If the file is not there, or is no such report.
 */
export async function readTimes(path: string): Promise<Map<string, number>> {
  const seconds = new Map<string, number>();
  for (
    const [, file, time] of (await readText(path)).matchAll(
      /<testcase .*?classname="([^"]*)" time="([\d.]+)"/g,
    )
  ) {
    const name = file!.replace(/^\.\//, "").replace(/[#$][\d-]+\.\w+$/, "");
    seconds.set(name, (seconds.get(name) ?? 0) + Number(time));
  }
  if (seconds.size === 0) {
    throw new UsageError(
      `Cannot use "${path}": found no times of tests, expected what deno test --junit-path=FILE writes`,
    );
  }
  return seconds;
}

if (import.meta.main) {
  const [path = "times.xml", count = "30"] = Deno.args;
  const times = [...await readTimes(path)].sort(([, a], [, b]) => b - a);
  for (const [file, seconds] of times.slice(0, Number(count))) {
    console.log(`${seconds.toFixed(1).padStart(7)} s  ${file}`);
  }
}
