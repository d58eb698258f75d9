/** Puts mutants into copies of the tree, one after the other, and runs the tests that may detect each. */
import { type CpuBackend, cpuLevels, openCpu } from "../../../ffi/mod.ts";
import { LEVELS } from "../../../ffi/sources.ts";
import { NativeLibraryError } from "../../../lib/errors.ts";
import { findKernelTests, findTests, type Importers } from "./dependents.ts";
import type { Mutant } from "./draw.ts";
import type { Workplace } from "./workplace.ts";

/** The outcome of a mutant. */
export interface Outcome {
  readonly mutant: Mutant;
  /**
   * `invalid`: does not type-check or compile, or compiles to the same library. `untested`: this machine cannot run the
   * file, so that its tests are ignored.
   */
  readonly result: "noticed" | "survived" | "invalid" | "untested";
  /** The test that detected it; "" if none did. */
  readonly by: string;
  readonly seconds: number;
}

/** Common data of all jobs. */
export interface Run {
  /** All files of the tree. */
  readonly paths: readonly string[];
  readonly importers: Importers;
  /** Deno's flags that make `@std` resolve. */
  readonly flags: readonly string[];
  /** Time limit of a test file in seconds, if its duration is unknown. */
  readonly limit: number;
  /** Most test files to run for a mutant. */
  readonly tests: number;
  readonly signal: AbortSignal;
  /** Seconds of test files, as far as they are known. */
  readonly seconds: Map<string, number>;
  /** Test files, and single tests as {@linkcode keyOf} names them, that pass without a mutant. */
  readonly sound: Set<string>;
  /** Test files that fail without a mutant, and how. */
  readonly broken: Map<string, string>;
  /** The CPU library without a mutant, built by the first job that needs it. */
  readonly whole: { library?: Promise<string> };
  /** Code of the level of the CPU library that gets a mutant first. */
  readonly level: number;
  /** Files that this machine cannot run. */
  readonly untestable: ReadonlySet<string>;
}

/** Seconds that a build may take. */
const BUILD_LIMIT = 600;
/**
 * Time limits of a test file: PATIENCE times its known duration, but at least LEAST_LIMIT seconds if it has passed
 * here. NOTED_LIMIT applies if its duration is from an earlier run, which excludes the import of the file.
 */
const PATIENCE = 5, LEAST_LIMIT = 30, NOTED_LIMIT = 90;
/** This many of the tests count as near; a later one must fail twice. */
const NEAR = 3;

/** Whether a mutant is one of the CPU library. */
export function isKernel({ file }: Pick<Mutant, "file">): boolean {
  return !file.endsWith(".ts");
}

/** Key of a test file, or of one test of it, in a set of sound tests. */
function keyOf(test: string, only?: string): string {
  return only === undefined ? test : `${test}: ${only}`;
}

/** A source with its mutant. */
function mutate(source: string, { start, end, text }: Mutant): string {
  return source.slice(0, start) + text + source.slice(end);
}

/** Errors of the type checker about unused names, which are not wrong. */
const UNUSED = /^TS(6133|6192|6196|6198|6199) /;

/** Mutants of TypeScript that do not type-check: all are checked at once, each as a file next to its own. */
export async function findMistyped(
  mutants: readonly Mutant[],
  place: Workplace,
  flags: readonly string[],
): Promise<Set<Mutant>> {
  const files = new Map<string, Mutant>();
  for (const [i, mutant] of mutants.entries()) {
    if (isKernel(mutant)) continue;
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
  const parts = success ? [] : output.split(/^(?=TS\d+ \[ERROR\])/m);
  const blocks = parts.filter((part) => /^TS\d+ \[ERROR\]/.test(part)); // text before the first is none
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

/** The outcome of tests. */
interface Tested {
  readonly result: "passed" | "failed" | "took too long";
  /** The first test that failed, where Deno names one. */
  readonly failing?: string;
  /** The result in words. */
  readonly how: string;
}

/** Name of the first test that failed, without its steps; undefined if Deno's output has no list of failures. */
function findFailing(output: string): string | undefined {
  return output.match(/^ FAILURES \n\n(.+?)(?: \.\.\. .+)? => \S+$/m)?.[1];
}

/** Code of the level of the CPU library that gets a mutant first: the highest, which is compiled the fastest. */
export async function findFirstLevel(): Promise<number> {
  const name = (await cpuLevels()).at(-1);
  return LEVELS[Deno.build.arch]!.find((level) => level.name === name)!.code;
}

/** Sources of bf16 matrix multiplications, with a part of the description of a CPU that runs them. */
const BF16_SOURCES: Readonly<Record<string, string>> = {
  "kernels/linear/bf16.h": "by AMX",
  "kernels/linear/bf16_dots.h": "by AVX512-BF16",
};

/**
 * Sources of the CPU library that this machine cannot run: bf16 matrix multiplications whose instructions it lacks.
 *
 * @param open Opens the library, which must be built.
 */
export async function findUntestable(
  open: () => Promise<Pick<CpuBackend, "description"> & Disposable> = () =>
    openCpu({ products: "bf16", level: "avx512", threads: 1 }),
): Promise<Set<string>> {
  let description = "";
  try {
    using backend = await open();
    ({ description } = backend);
  } catch (error) {
    if (!(error instanceof NativeLibraryError)) throw error;
  }
  return new Set(Object.keys(BF16_SOURCES).filter((file) => !description.includes(BF16_SOURCES[file]!)));
}

/**
 * Tests mutants in one copy of the tree.
 *
 * @returns Runs the tests that depend on a mutant's file until one fails; undefined where it was interrupted.
 */
export function createTester(place: Workplace, run: Run): (mutant: Mutant) => Promise<Outcome | undefined> {
  const { flags, seconds, sound, broken, signal } = run;

  /** Builds the CPU library. @returns Its name, a digest of its bytes; "" where it does not compile. */
  async function build(level: number | "all" | "none"): Promise<string> {
    const command = [Deno.execPath(), "run", "-A", "--no-lock", "--no-check", "build.ts", "--force"];
    const env = { CXX: place.compiler, MUTANT_LEVEL: `${level}` };
    const { success, output } = await place.run(command, BUILD_LIMIT, env);
    if (success) return output.match(/^built (\S+)/m)![1]!;
    if (output.includes("the compiler failed")) return "";
    throw new Error(`Cannot build the CPU library: ${output.trim()}`);
  }

  /** Tests of a file: the name of the file itself means the examples of its documentation. */
  function testsOf({ file }: Mutant, source: string): string[] {
    if (isKernel({ file })) return findKernelTests(file, run.paths, run.tests, seconds);
    const tests = findTests(file, run.importers, run.tests, seconds);
    return /^\s*\* ```ts$/m.test(source) ? [...tests.slice(0, 1), file, ...tests.slice(1)] : tests;
  }

  /** Runs a test file, or only those of its tests whose names contain `only`. */
  async function runTest(test: string, env: Record<string, string>, only?: string): Promise<Tested> {
    const known = seconds.get(test), least = sound.has(test) ? LEAST_LIMIT : NOTED_LIMIT;
    const limit = known === undefined ? run.limit : Math.max(Math.min(least, run.limit), PATIENCE * known);
    const ran = await place.run(
      [
        ...[Deno.execPath(), "test", "-A", "--no-check", "--fail-fast", "--preload=.std/strict_assert.ts"],
        ...(test.endsWith("_test.ts") ? [] : ["--doc"]),
        ...flags,
        ...(only === undefined ? [] : [`--filter=${only}`]),
        test,
      ],
      limit,
      env,
    );
    // If no test has that name any more, the whole file is run.
    if (ran.success && only !== undefined && /^ok \| 0 passed/m.test(ran.output)) {
      return await runTest(test, env);
    }
    if (ran.success) sound.add(keyOf(test, only));
    if (ran.success && only === undefined) seconds.set(test, ran.seconds);
    if (ran.success) return { result: "passed", how: "passes" };
    if (ran.timedOut) return { result: "took too long", how: `takes more than ${limit.toFixed()} s` };
    const failing = findFailing(ran.output);
    return { result: "failed", failing, how: failing ?? ran.output.trim().split("\n").at(-1)! };
  }

  /** The first of a mutant's tests that fails on it; "" where none does, undefined where it was interrupted. */
  async function findNoticing(
    tests: readonly string[],
    isKernel: boolean,
    put: (mutated: boolean) => Promise<void>,
  ): Promise<string | undefined> {
    const env: Record<string, string> = isKernel ? { TOKENFILTER_TEST_DEVICE: "cpu" } : {};
    for (const [i, test] of tests.entries()) {
      if (signal.aborted) return undefined;
      if (broken.has(test)) continue;
      const { result, failing } = await runTest(test, env);
      if (result === "passed") continue;
      const isKnown = sound.has(test) || sound.has(keyOf(test, failing));
      if (!isKnown) { // does it fail without the mutant too?
        await put(false);
        const { result, how } = await runTest(test, env, failing);
        await put(true);
        if (signal.aborted) return undefined;
        if (result !== "passed") {
          broken.set(test, how);
          continue;
        }
      }
      // A distant test, or one whose limit was unknown, may fail for another reason.
      const isUnsure = i >= NEAR || (!isKnown && result === "took too long");
      if (isUnsure && (await runTest(test, env, failing)).result === "passed") continue;
      return test;
    }
    return "";
  }

  /** As {@linkcode findNoticing}, with a library that has the mutant; or "invalid". */
  async function judgeKernel(tests: readonly string[], put: (mutated: boolean) => Promise<void>) {
    const whole = await (run.whole.library ??= build("none"));
    if (whole === "") throw new Error("Cannot build the CPU library: it does not compile");
    await put(true);
    let result = "invalid";
    // One level takes a third of the time to compile, and near tests mostly detect the mutant there.
    for (const [level, most] of [[run.level, NEAR], ["all", tests.length]] as const) {
      const library = await build(level);
      if (library === "") return "invalid";
      if (library === whole) continue;
      const by = await findNoticing(tests.slice(0, most), true, put);
      if (by !== "") return by;
      result = "";
    }
    return result;
  }

  return async (mutant) => {
    if (run.untestable.has(mutant.file)) return { mutant, result: "untested", by: "", seconds: 0 };
    const began = performance.now();
    const path = `${place.root}/${mutant.file}`, source = await Deno.readTextFile(path);
    const put = (mutated: boolean) => Deno.writeTextFile(path, mutated ? mutate(source, mutant) : source);
    const tests = testsOf(mutant, source);
    let by: string | undefined;
    try {
      if (isKernel(mutant)) by = await judgeKernel(tests, put);
      else {
        await put(true);
        by = await findNoticing(tests, false, put);
      }
    } finally {
      await put(false);
    }
    if (by === undefined || signal.aborted) return undefined;
    const result = by === "invalid" ? by : by === "" ? "survived" : "noticed";
    const spent = (performance.now() - began) / 1000;
    return { mutant, result, by: result === "noticed" ? by : "", seconds: spent };
  };
}
