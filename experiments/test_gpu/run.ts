/** Runs test files in a Deno process of their own, shows what they say, and counts. */

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
  readonly env: Record<string, string>;
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

/**
 * Runs a test command to its end. A process that ends badly though no test failed counts as one more failure: a crash,
 * an error outside of tests, or what a checker around it found.
 */
export async function runTests({ command, cwd, env, onOutput }: TestRun): Promise<TestCounts> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said: string[] = [];
  const listen = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      onOutput(bytes);
      said.push(decoder.decode(bytes, { stream: true }));
    }
  };
  const [, , { success }] = await Promise.all([listen(child.stdout), listen(child.stderr), child.status]);
  const counts = readSummary(said.join("")) ?? { passed: 0, failed: 0, ignored: 0 };
  return !success && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}
