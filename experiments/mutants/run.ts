/** Puts mutants into copies of the tree, one after the other, and sees which a test notices. */
import { findKernelTests, findTests, type Importers } from "./dependents.ts";
import type { Mutant } from "./draw.ts";
import type { Workplace } from "./workplace.ts";

/** What became of a mutant. */
export interface Outcome {
  readonly mutant: Mutant;
  /** `invalid`: does not type-check or compile, or compiles to the same library. */
  readonly result: "noticed" | "survived" | "invalid";
  /** The test that noticed it; "" where none. */
  readonly by: string;
  readonly seconds: number;
}

/** What all jobs share. */
export interface Run {
  /** All files of the tree. */
  readonly paths: readonly string[];
  readonly importers: Importers;
  /** Deno's flags that make `@std` resolve. */
  readonly flags: readonly string[];
  /** Seconds that a test file may take while nothing is known of it. */
  readonly limit: number;
  /** Test files to run for a mutant, at most. */
  readonly tests: number;
  readonly signal: AbortSignal;
  /** Seconds of test files that passed. */
  readonly passed: Map<string, number>;
  /** Test files that fail without a mutant. */
  readonly broken: Set<string>;
}

/** Seconds that a build may take. */
const BUILD_LIMIT = 600;
/** A test file that has passed may take so many times as long, and at least so many seconds. */
const PATIENCE = 5, LEAST_LIMIT = 30;
/** So many of the tests are near; one that comes later must fail twice. */
const NEAR = 3;

/** A source with its mutant. */
function mutate(source: string, { start, end, text }: Mutant): string {
  return source.slice(0, start) + text + source.slice(end);
}

/** Errors of the type checker that say a name is not used any more, which is not wrong. */
const UNUSED = /^TS(6133|6192|6196|6198|6199) /;

/** Mutants of TypeScript that do not type-check: all are checked at once, each as a file beside its own. */
export async function findMistyped(
  mutants: readonly Mutant[],
  place: Workplace,
  flags: readonly string[],
): Promise<Set<Mutant>> {
  const files = new Map<string, Mutant>();
  for (const [i, mutant] of mutants.entries()) {
    if (!mutant.file.endsWith(".ts")) continue;
    const file = mutant.file.replace(/\.ts$/, `.mutant_${i}.ts`);
    files.set(file, mutant);
    const source = await Deno.readTextFile(`${place.root}/${mutant.file}`);
    await Deno.writeTextFile(`${place.root}/${file}`, mutate(source, mutant));
  }
  if (files.size === 0) return new Set();
  const { success, output } = await place.run(
    [Deno.execPath(), "check", ...flags, ...files.keys()],
    BUILD_LIMIT,
  );
  await Promise.all([...files.keys()].map((file) => Deno.remove(`${place.root}/${file}`)));
  const mistyped = new Set<Mutant>();
  const blocks = success ? [] : output.split(/^(?=TS\d+ \[ERROR\])/m).slice(1);
  for (const block of blocks) {
    const file = block.match(/^ +at file:\/\/(.*?):\d+:\d+$/m)?.[1]?.slice(place.root.length + 1);
    const mutant = files.get(file ?? "");
    if (mutant === undefined) {
      throw new Error(`Cannot check types: found an error without a mutant:\n${block}`);
    }
    if (!UNUSED.test(block)) mistyped.add(mutant);
  }
  if (!success && blocks.length === 0) throw new Error(`Cannot check types: ${output.trim()}`);
  return mistyped;
}

/**
 * Judges mutants in one copy of the tree.
 *
 * @returns Runs the tests that depend on a mutant's file until one fails; undefined where it was interrupted.
 */
export function createJudge(place: Workplace, run: Run): (mutant: Mutant) => Promise<Outcome | undefined> {
  const { flags, passed, broken, signal } = run;
  let wholeLibrary: string | undefined;

  /** Builds the CPU library. @returns Its name, a digest of its bytes; "" where it does not compile. */
  async function build(): Promise<string> {
    const command = [Deno.execPath(), "run", "-A", "--no-lock", "--no-check", "build.ts", "--force"];
    const { success, output } = await place.run(command, BUILD_LIMIT, { CXX: place.compiler });
    if (success) return output.match(/^built (\S+)/m)![1]!;
    if (output.includes("the compiler failed")) return "";
    throw new Error(`Cannot build the CPU library: ${output.trim()}`);
  }

  /** Tests of a file: `FILE` itself stands for the examples of its documentation. */
  function testsOf({ file }: Mutant, source: string): string[] {
    if (!file.endsWith(".ts")) return findKernelTests(file, run.paths, run.tests);
    const tests = findTests(file, run.importers, run.tests, passed);
    return /^\s*\* ```ts$/m.test(source) ? [...tests.slice(0, 1), file, ...tests.slice(1)] : tests;
  }

  async function runTest(
    test: string,
    env: Record<string, string>,
  ): Promise<"passed" | "failed" | "took too long"> {
    const known = passed.get(test);
    const limit = known === undefined
      ? run.limit
      : Math.max(Math.min(LEAST_LIMIT, run.limit), PATIENCE * known);
    const { success, seconds, timedOut } = await place.run(
      [
        ...[Deno.execPath(), "test", "-A", "--no-check", "--fail-fast", "--preload=.std/strict_assert.ts"],
        ...(test.endsWith("_test.ts") ? [] : ["--doc"]),
        ...flags,
        test,
      ],
      limit,
      env,
    );
    if (success) passed.set(test, seconds);
    return success ? "passed" : timedOut ? "took too long" : "failed";
  }

  return async (mutant) => {
    const began = performance.now();
    const path = `${place.root}/${mutant.file}`, source = await Deno.readTextFile(path);
    const isKernel = !mutant.file.endsWith(".ts");
    let result: Outcome["result"] = "survived", by = "";
    if (isKernel) wholeLibrary ??= await build();
    if (wholeLibrary === "") throw new Error("Cannot build the CPU library: it does not compile");
    try {
      const put = () => Deno.writeTextFile(path, mutate(source, mutant));
      await put();
      const library = isKernel ? await build() : "";
      if (isKernel && (library === "" || library === wholeLibrary)) result = "invalid";
      for (const [i, test] of (result === "invalid" ? [] : testsOf(mutant, source)).entries()) {
        if (signal.aborted) return undefined;
        if (broken.has(test)) continue;
        const run = () => runTest(test, isKernel ? { TOKENFILTER_TEST_DEVICE: "cpu" } : {});
        let ran = await run();
        if (ran === "passed") continue;
        const isKnown = passed.has(test);
        if (!isKnown) { // is it the mutant that it fails on?
          await Deno.writeTextFile(path, source);
          if (await run() !== "passed" && !signal.aborted) broken.add(test);
          await put();
          if (broken.has(test)) continue;
        }
        // A test from afar, or one whose limit was not known yet, may fail for another reason.
        if (i >= NEAR || (!isKnown && ran === "took too long")) ran = await run();
        if (ran === "passed") continue;
        [result, by] = ["noticed", test];
        break;
      }
    } finally {
      await Deno.writeTextFile(path, source);
    }
    if (signal.aborted) return undefined;
    return { mutant, result, by, seconds: (performance.now() - began) / 1000 };
  };
}
