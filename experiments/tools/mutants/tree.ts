/** Mutation testing of a tree: draws mutants, tests them in copies, and counts. */
import { buildCpu, ensureBlas } from "../../../build.ts";
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { readJson } from "../../commands/cli/files.ts";
import { findDenoCaches, readStdFlags } from "../../commands/cli/machine/deno.ts";
import { listTree, type PackedFile } from "../machine/checkout.ts";
import { listCpuSources, readImporters } from "./dependents.ts";
import {
  drawMutants,
  type Equivalent,
  findStale,
  isIn,
  isMutableTypeScript,
  isSame,
  listMutants,
  type Mutant,
} from "./draw.ts";
import { createTester, findFirstLevel, findMistyped, findUntestable, isKernel, type Outcome } from "./run.ts";
import { makeWorkplace, type Workplace } from "./workplace.ts";

/** File of equivalent mutants. */
export const LIST = "experiments/tools/mutants/equivalent.json";

/** The sample of mutants, and how it is tested. */
export interface SampleOptions {
  readonly scope: readonly string[];
  readonly seed: string;
  readonly count: number;
  /** Time limit of a test file in seconds, if its duration is unknown. */
  readonly limit: number;
  /** Most test files to run for a mutant. */
  readonly tests: number;
  readonly jobs: number;
  /** Seconds of test files, as far as they are known. */
  readonly seconds?: ReadonlyMap<string, number> | undefined;
}

/** A drawn sample. */
export interface Sample {
  readonly tree: readonly PackedFile[];
  /** Mutants to test. */
  readonly mutants: readonly Mutant[];
  /** Drawn ones that are listed as equivalent. */
  readonly equivalent: number;
  /** Entries of the list that match no mutant of the scope. */
  readonly stale: readonly Equivalent[];
}

/** Draws from the tracked files at `root` as they are now. */
export async function drawSample(
  { scope, seed, count }: Pick<SampleOptions, "scope" | "seed" | "count">,
  root: string,
): Promise<Sample> {
  const tree = await listTree(root), listed = await readJson(`${root}/${LIST}`) as Equivalent[];
  const read = (path: string) => Deno.readTextFile(`${root}/${path}`);
  const kernels = scope.some((part) => part === "cpu" || part.startsWith("kernels"));
  const files = [
    ...tree.map(({ to }) => to).filter(isMutableTypeScript),
    ...(kernels ? await listCpuSources(read) : []),
  ];
  const all = await listMutants(scope, files, read);
  const drawn = scope.every((part) => /:\d+$/.test(part)) ? all : drawMutants(all, seed, count);
  const mutants = drawn.filter((mutant) => !listed.some((entry) => isSame(mutant, entry)));
  const whole = scope.filter((part) => !/:\d+$/.test(part));
  const stale = findStale(listed.filter(({ file }) => whole.some((part) => isIn(file, part))), all);
  return { tree, mutants, equivalent: drawn.length - mutants.length, stale };
}

/**
 * Tests a sample in `jobs` copies of the tree. Removes the copies at the end, even after an interruption.
 *
 * @returns Test files that fail without a mutant, and how.
 */
export async function testSample(
  { mutants, tree }: Sample,
  { jobs, limit, tests, seconds }: SampleOptions,
  signal: AbortSignal,
  onOutcome: (outcome: Outcome) => void,
): Promise<ReadonlyMap<string, string>> {
  const base = await Deno.makeTempDir({ prefix: "tokenfilter-mutants-" });
  const places: Workplace[] = [], stop = new AbortController();
  const broken = new Map<string, string>();
  try {
    const flags = await readStdFlags(),
      { denoDir } = await findDenoCaches(),
      paths = tree.map(({ to }) => to);
    for (let job = 0; job < Math.min(jobs, mutants.length) && !signal.aborted; job++) {
      places.push(
        await makeWorkplace(`${base}/${job}`, {
          tree,
          cache: cacheDir(),
          denoDir,
          signal: AbortSignal.any([signal, stop.signal]),
        }),
      );
    }
    if (signal.aborted || places.length === 0) return broken;
    const importers = await readImporters(places[0]!.root, paths, flags);
    const mistyped = await findMistyped(mutants, places[0]!, flags);
    mistyped.forEach((mutant) => onOutcome({ mutant, result: "invalid", by: "", seconds: 0 }));
    // Mutants of the library take the longest. They come first, so that none is left for the end.
    const queue = mutants.filter((mutant) => !mistyped.has(mutant))
      .sort((a, b) => Number(isKernel(b)) - Number(isKernel(a)));
    const known = { seconds: new Map(seconds), sound: new Set<string>(), broken, whole: {} };
    const kernels = queue.some(isKernel), level = kernels ? await findFirstLevel() : 0;
    const untestable = kernels ? await findUntestable() : new Set<string>();
    const run = { paths, importers, flags, limit, tests, signal, level, untestable, ...known };
    await Promise.all(places.map(async (place) => {
      const test = createTester(place, run);
      for (let mutant = queue.shift(); mutant !== undefined && !signal.aborted; mutant = queue.shift()) {
        const outcome = await test(mutant);
        if (outcome !== undefined) onOutcome(outcome);
      }
    }));
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop.abort();
    await Deno.remove(base, { recursive: true });
  }
  return broken;
}

/** Builds the libraries that tests load, so that no copy has to: the emulated one unless tests are of the CPU only. */
export async function buildLibraries(onProgress: (message: string) => void): Promise<void> {
  const options = { onProgress }, isEmulated = Deno.env.get("TOKENFILTER_TEST_DEVICE") !== "cpu";
  await Promise.all([
    buildCpu(options),
    ensureBlas(options),
    ...(isEmulated ? [buildEmulated(options)] : []),
  ]);
}
