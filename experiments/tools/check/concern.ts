/** The dependents of changed files: modules whose types they can break, tests, native libraries. */
import { run } from "../../../ffi/build/command.ts";
import { EMULATOR_UNITS } from "../../../ffi/build/emulated_testing.ts";
import { readSources } from "../../../ffi/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { findDependents, findKernelTests, findTests, readImporters } from "./dependents.ts";

/** Files of a checkout, as paths from its root. */
export interface Changed {
  /** Everything that is tracked, or new and not ignored. */
  readonly tree: readonly string[];
  /** The files to check. */
  readonly files: readonly string[];
  /** The deleted ones of them. */
  readonly deleted: readonly string[];
}

/** A native library that tests load. */
export type Device = "cpu" | "emulated";

/** The modules and tests that the changes concern. */
export interface Concern {
  /** Changed modules, then those that depend on one, nearest first. */
  readonly modules: readonly string[];
  /** Tests, nearest first. */
  readonly tests: readonly string[];
  /** The nearest test of each changed file. */
  readonly nearest: ReadonlySet<string>;
  /** Libraries that a changed file is part of. */
  readonly devices: ReadonlySet<Device>;
  /** The device that tests of kernels can be limited to, where every changed file is a source of its library. */
  readonly device: Device | undefined;
}

/** The tests that check pages of documentation. */
const DOCS_TESTS: readonly string[] = ["lib/entries_test.ts", "experiments/tools/docs/docs_test.ts"];
const ARCHITECTURE = "lib/architecture_test.ts";

async function git(root: string, ...args: string[]): Promise<string[]> {
  const { success, stdout, stderr } = await run("git", [...args], { cwd: root });
  if (success) return stdout.split("\0").filter((path) => path !== "");
  throw new UsageError(`Cannot list the changed files: ${stderr.trim()} (expected a git checkout)`);
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/**
 * Lists the files to check: those asked for, or those that differ from HEAD, with new ones.
 *
 * @throws {UsageError} If there is no git checkout, or it has no such file.
 */
export async function listChanged(root: string, asked: readonly string[]): Promise<Changed> {
  const known = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const tree = new Set(await git(root, ...known)), chosen = new Set<string>();
  for (const path of asked) {
    const found = await git(root, ...known, "--", path).catch(() => []); // outside of the checkout
    if (found.length === 0) {
      throw new UsageError(
        `Cannot check "${path}": found no such file in the checkout, expected files or folders`,
      );
    }
    found.forEach((each) => chosen.add(each));
  }
  if (asked.length === 0) {
    for (const path of await git(root, "diff", "-z", "--name-only", "--no-renames", "HEAD")) chosen.add(path);
    for (const path of await git(root, "ls-files", "-z", "--others", "--exclude-standard")) chosen.add(path);
  }
  const deleted: string[] = [];
  for (const path of new Set([...tree, ...chosen])) {
    if (await isThere(`${root}/${path}`)) continue;
    tree.delete(path);
    if (chosen.delete(path)) deleted.push(path);
  }
  return { tree: [...tree].sort(), files: [...chosen].sort(), deleted: deleted.sort() };
}

/** Sources of the native libraries, as paths from the root. */
async function readNative(root: string): Promise<Record<Device, ReadonlySet<string>>> {
  const read = (path: string) => Deno.readTextFile(`${root}/kernels/${path}`);
  const paths = async (...[library, more]: Parameters<typeof readSources>) =>
    new Set(Array.from((await readSources(library, more, read)).texts.keys(), (path) => `kernels/${path}`));
  return { cpu: await paths("cpu"), emulated: await paths("cuda", EMULATOR_UNITS) };
}

/** Tests whose text names a file. */
async function findNaming(root: string, path: string, tests: readonly string[]): Promise<string[]> {
  const name = new RegExp(`[/"'\`]${RegExp.escape(path.replace(/.*\//, ""))}["'\`]`), found: string[] = [];
  for (const test of tests) if (name.test(await Deno.readTextFile(`${root}/${test}`))) found.push(test);
  return found;
}

/**
 * Finds the modules and tests that depend on changed files.
 *
 * @param flags Deno's flags that make `@std` resolve.
 * @param seconds Durations of tests, as far as they are known.
 */
export async function findConcern(
  root: string,
  { tree, files, deleted }: Changed,
  flags: readonly string[],
  seconds: ReadonlyMap<string, number>,
): Promise<Concern> {
  const all = [...files, ...deleted], tests = tree.filter((path) => path.endsWith("_test.ts"));
  const importers = await readImporters(root, tree, flags, deleted);
  const hasNative = all.some((path) => /^kernels\/.*\.(h|def|cpp|cuh?)$/.test(path));
  const native = hasNative ? await readNative(root) : undefined;
  const devicesOf = (path: string) =>
    (["cpu", "emulated"] as const).filter((device) => native?.[device].has(path) ?? false);
  const away = new Map<string, number>(), lists: string[][] = [];
  for (const path of all) {
    if (path.endsWith(".ts")) {
      for (const [module, steps] of findDependents(path, importers)) {
        away.set(module, Math.min(steps, away.get(module) ?? Infinity));
      }
      lists.push(findTests(path, importers, Infinity, seconds));
      continue;
    }
    const devices = devicesOf(path);
    const near = devices.map((device) => findKernelTests(path, tree, Infinity, seconds, device));
    const pages = path.endsWith(".md") || path.endsWith(".ipynb") ? DOCS_TESTS : [];
    const naming = devices.length > 0 ? [] : await findNaming(root, path, tests);
    lists.push([...new Set([...near.flat(), ...naming, ...pages.filter((test) => tree.includes(test))])]);
  }
  const isGuarded = all.some((path) => path.endsWith(".ts") || path === "docs/explain/architecture.md");
  const devices = new Set(all.flatMap(devicesOf));
  const isNative = all.every((path) => devicesOf(path).length > 0);
  return {
    modules: [...away].filter(([path]) => !deleted.includes(path)).sort(([, a], [, b]) => a - b)
      .map(([path]) => path),
    tests: [
      ...new Set([...isGuarded && tree.includes(ARCHITECTURE) ? [ARCHITECTURE] : [], ...interleave(lists)]),
    ],
    nearest: new Set(lists.flatMap(([first]) => first ?? [])),
    devices,
    device: isNative && devices.size === 1 ? [...devices][0] : undefined,
  };
}

/** The first of each list, then the second of each, … */
function interleave(lists: readonly (readonly string[])[]): string[] {
  const longest = Math.max(0, ...lists.map(({ length }) => length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list[i] ?? [])).flat();
}
