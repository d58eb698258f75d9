/** Runs a test file in a process of its own, within a time limit, counts, and says in short what went wrong. */
import { formatDuration } from "../cli/progress.ts";
import { EXIT } from "../cli/task.ts";

/** What became of a run. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
}

/** How to run. */
export interface TestRun {
  /** The program and its arguments; the first is the path of a program. */
  readonly command: readonly string[];
  /** Folder in which it runs. */
  readonly cwd: URL;
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
  /** A run that has not ended by then is ended: a kernel may wait for ever. */
  readonly limitMs: number;
  /** Hears everything that it says, as it says it. */
  readonly onOutput: (bytes: Uint8Array) => void;
}

/** The line in which `deno test` sums up. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(.*)$/gm;

/** Reads the summary of a run; undefined where there is none. */
export function readSummary(said: string): TestCounts | undefined {
  // deno-lint-ignore no-control-regex
  const last = [...said.replaceAll(/\x1b\[[\d;]*m/g, "").matchAll(SUMMARY)].at(-1);
  if (last === undefined) return undefined;
  const ignored = last[3]!.match(/\| (\d+) ignored/)?.[1] ?? 0;
  return { passed: Number(last[1]), failed: Number(last[2]), ignored: Number(ignored) };
}

/** Signals that end the runs too: they are in process groups of their own. */
const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated } as const;

/**
 * Runs a test command to its end, or to the limit. A process that ends badly though no test failed counts as one more
 * failure: a crash, no end, an error outside of tests, or what a checker around it found.
 */
export async function runTests({ command, cwd, env, limitMs, onOutput }: TestRun): Promise<TestCounts> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true, // a group of its own: compute-sanitizer starts processes too
  }).spawn();
  const end = () => {
    try {
      Deno.kill(-child.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  };
  const listeners = Object.entries(SIGNALS).map(([signal, code]) => {
    const listener = () => (end(), Deno.exit(code));
    Deno.addSignalListener(signal as Deno.Signal, listener);
    return [signal as Deno.Signal, listener] as const;
  });
  const said: string[] = [];
  const hear = (bytes: Uint8Array, text: string) => (onOutput(bytes), said.push(text));
  const timer = setTimeout(() => {
    const words = `\nerror: found no end after ${formatDuration(limitMs)}\n`;
    hear(new TextEncoder().encode(words), words);
    end();
  }, limitMs);
  const listen = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) hear(bytes, decoder.decode(bytes, { stream: true }));
  };
  try {
    const [, , { success }] = await Promise.all([listen(child.stdout), listen(child.stderr), child.status]);
    const counts = readSummary(said.join("")) ?? { passed: 0, failed: 0, ignored: 0 };
    return !success && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
  } finally {
    clearTimeout(timer);
    for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
  }
}

/** Lines of a checker that say nothing by themselves. */
const IDLE =
  /^========= *(?:COMPUTE-SANITIZER|(?:ERROR|RACECHECK) SUMMARY|$|Saved host backtrace|Host Frame)/;
/** Findings of one run that are told in short. */
const MOST_FINDINGS = 8;

/** What went wrong in a run, a line each: tests with their errors, what a checker found, how the process ended. */
export function readFailures(said: string): string[] {
  // deno-lint-ignore no-control-regex
  const lines = said.replaceAll(/\x1b\[[\d;]*m/g, "").split("\n");
  const found: string[] = [];
  for (const [i, line] of lines.entries()) {
    const test = line.match(/^(.*) => \.\/\S+:\d+:\d+$/)?.[1];
    const error = lines[i + 1]?.match(/^error: (.*)$/)?.[1];
    if (test !== undefined && error !== undefined) found.push(`${test}: ${error}`);
    else if (line.startsWith("=========") && !IDLE.test(line)) found.push(line.replace(/^=+ */, ""));
    else if (line.startsWith("error: found no end")) found.push(line.slice(7));
  }
  if (found.length === 0) {
    const last = lines.filter((line) => line.trim() !== "").at(-1);
    if (last !== undefined) found.push(`it ended with: ${last.trim()}`);
  }
  const more = found.length - MOST_FINDINGS;
  return more > 0 ? [...found.slice(0, MOST_FINDINGS), `and ${more} lines more`] : found;
}
