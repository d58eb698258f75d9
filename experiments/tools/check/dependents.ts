/** The tests that depend on a file, nearest first. */
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";

/** For each module, the modules that import it, name it or start it. Paths from the root. */
export type Importers = ReadonlyMap<string, ReadonlySet<string>>;

/** Additional steps to a test in another room (`lib`, `ffi`, …). */
const OTHER_ROOM = 3;
/** Folders of the modules of tasks. */
const TASK_FOLDERS = ["experiments/commands", "experiments/tools"];

/**
 * Reads the graph of a tree.
 *
 * @param root The tree's folder.
 * @param paths All files of the tree.
 * @param flags Deno's flags that make `@std` resolve.
 * @param deleted Modules that were deleted, but may still be imported.
 */
export async function readImporters(
  root: string,
  paths: readonly string[],
  flags: readonly string[],
  deleted: readonly string[] = [],
): Promise<Importers> {
  const modules = paths.filter((path) => path.endsWith(".ts")), known = new Set([...modules, ...deleted]);
  const importers = new Map<string, Set<string>>();
  const add = (to: string, from: string) => {
    if (to !== from && known.has(to)) importers.set(to, (importers.get(to) ?? new Set()).add(from));
  };
  for (const [from, targets] of await readImports(root, modules, flags)) {
    targets.forEach((to) => add(to, from));
  }
  for (const from of modules) {
    const text = await Deno.readTextFile(`${root}/${from}`);
    for (const [, name] of text.matchAll(/["'`]([\w./-]+)["'`]/g)) {
      if (name!.endsWith(".ts")) {
        if (/^\.\.?\//.test(name!)) add(new URL(name!, `file:///${from}`).pathname.slice(1), from);
        else if (/_test\.ts$|^experiments\//.test(from)) add(name!, from);
      } else if (/^experiments\/.*test(ing)?\.ts$/.test(from)) { // runTask("score")
        for (const folder of TASK_FOLDERS) add(`${folder}/${name}.ts`, from);
      }
    }
    if (from.endsWith("_test.ts")) add(from.replace("_test.ts", ".ts"), from);
  }
  return importers;
}

/** Imports among modules, by `deno info` of one that imports all. */
async function readImports(
  root: string,
  modules: readonly string[],
  flags: readonly string[],
): Promise<Map<string, string[]>> {
  const base = new URL(`file://${root}/`).href;
  const all = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(all, modules.map((path) => `import "${base}${path}";\n`).join(""));
  try {
    const { success, stdout, stderr } = await run(Deno.execPath(), ["info", "--json", ...flags, all], {
      cwd: root,
    });
    if (!success) throw new UsageError(`Cannot read the imports: ${stderr.trim()}`);
    const graph: { modules: { specifier: string; dependencies?: Dependency[] }[] } = JSON.parse(stdout);
    return new Map(
      graph.modules.filter(({ specifier }) => specifier.startsWith(base))
        .map(({ specifier, dependencies = [] }) => [
          specifier.slice(base.length),
          dependencies.flatMap(({ code, type }) => [code?.specifier, type?.specifier])
            .filter((target) => target?.startsWith(base)).map((target) => target!.slice(base.length)),
        ]),
    );
  } finally {
    await Deno.remove(all);
  }
}

interface Dependency {
  readonly code?: { readonly specifier?: string };
  readonly type?: { readonly specifier?: string };
}

/**
 * Tests that are not run: their programs run under sanitizers, which reserve more memory than a copy of the
 * tree may have.
 */
const SANITIZED = /^kernels\/testing\/emulator\//;

/** The top-level folder; those of the native code are one. */
function roomOf(path: string): string {
  return path.split("/")[0]!.replace("kernels", "ffi");
}

/** A module and all that depend on it, with their steps in the graph, nearest first. */
export function findDependents(file: string, importers: Importers): ReadonlyMap<string, number> {
  const steps = new Map([[file, 0]]);
  for (const [path, away] of steps) { // the loop also visits entries that it adds
    for (const from of importers.get(path) ?? []) if (!steps.has(from)) steps.set(from, away + 1);
  }
  return steps;
}

/**
 * The nearest tests of a TypeScript file: by steps in the graph, then those next to it, then by name.
 *
 * @param most How many.
 * @param seconds Durations of tests, as far as they are known: double the duration ranks like one step farther.
 */
export function findTests(
  file: string,
  importers: Importers,
  most: number,
  seconds: ReadonlyMap<string, number> = new Map(),
): string[] {
  const steps = findDependents(file, importers);
  const folder = file.replace(/[^/]*$/, ""), room = roomOf(file);
  const ranks = new Map([...steps].map(([test, away]) => {
    if (test === file.replace(".ts", "_test.ts")) return [test, -Infinity];
    return [
      test,
      away + (roomOf(test) === room ? 0 : OTHER_ROOM) - (test.startsWith(folder) ? 0.5 : 0),
    ];
  }));
  const by = (rank: (test: string) => number) => (a: string, b: string) =>
    rank(a) - rank(b) || (a < b ? -1 : 1);
  return [...steps.keys()].filter((path) => path.endsWith("_test.ts") && !SANITIZED.test(path))
    .sort(by((test) => ranks.get(test)!))
    .slice(0, most)
    .sort(by((test) => ranks.get(test)! + Math.max(0, Math.log2(seconds.get(test) ?? 1))));
}

/**
 * The nearest tests of a source of the kernels: those of its folder, of all kernels, then those of its wrapper.
 *
 * @param most How many.
 * @param seconds Durations of tests, as far as they are known: among equally near ones, the quickest come first.
 * @param device The device of the tests: the CPU library, or the emulated CUDA library.
 */
export function findKernelTests(
  file: string,
  paths: readonly string[],
  most: number,
  seconds: ReadonlyMap<string, number> = new Map(),
  device: "cpu" | "emulated" = "cpu",
): string[] {
  const folder = file.replace(/[^/]*$/, "");
  const rank = (test: string) => test.startsWith(folder) ? 0 : test.startsWith("kernels/") ? 1 : 2;
  const near = (a: string, b: string) => rank(a) - rank(b) || (a < b ? -1 : 1);
  const isMeant = (path: string) =>
    device === "cpu"
      ? /^(kernels\/.*|ffi\/[^/]*)_test\.ts$/.test(path) && !/cuda|cublaslt/.test(path)
      : /^(kernels\/.*|ffi\/(cuda\/)?[^/]*)_test\.ts$/.test(path);
  return paths.filter((path) => isMeant(path) && !/mutants/.test(path) && !SANITIZED.test(path)).sort(near)
    .slice(0, most)
    .sort((a, b) => rank(a) - rank(b) || (seconds.get(a) ?? 0) - (seconds.get(b) ?? 0) || near(a, b));
}
