/** Guards the picture of docs/explain/architecture.md: which room imports which, and that there are no cycles. */
import { assert, assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);

/** An arrow of the picture, from room to room. With `files` it leads only to these files. */
interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly files: readonly string[] | undefined;
}

/** The picture of `docs/explain/architecture.md`. */
const PICTURE: readonly Arrow[] = Array.from(
  (await Deno.readTextFile(new URL("docs/explain/architecture.md", root)))
    .match(/^```mermaid\n(.*?)^```/ms)![1]!
    .matchAll(/^ +([\w.]+) -->(?:\|([^|]+)\|)? ([\w.]+)$/gm),
  ([, from, files, to]) => ({ from: from!, to: to!, files: files?.split(", ") }),
);

/** What experiments may import beside the files that the `mod.ts` of a room of `lib/` lists. */
const FOR_EXPERIMENTS = [
  "lib/*.ts",
  "lib/math/*.ts",
  "ffi/mod.ts",
  "ffi/cuda/mod.ts",
  "ffi/wasm/mod.ts",
  "kernels/testing/inputs.ts",
  "ffi/library/map_file.ts",
  "ffi/library/sources.ts",
  "ffi/build",
  "build.ts",
];

/** Folders of outputs at the root, as .gitignore has them. */
const OUTPUTS = ["results", "build", "artifacts"];

const tests: string[] = [], sources: string[] = [];
for await (const file of sourceFiles("")) (file.endsWith("_test.ts") ? tests : sources).push(file);
const imports = await importsOf(sources);

async function* sourceFiles(folder: string, name = /\.ts$/): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(new URL(folder, root))) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) {
      if (/^(\.|node_modules$)/.test(entry.name) || OUTPUTS.includes(path)) continue;
      yield* sourceFiles(`${path}/`, name);
    } else if (name.test(path)) yield path;
  }
}

/** Local files that each file imports, as paths from the root: from the graph of a module that imports them all. */
async function importsOf(files: readonly string[]): Promise<Map<string, string[]>> {
  const all = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(all, files.map((file) => `import "${new URL(file, root).href}";\n`).join(""));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--config=deno.json", "--no-remote", "--no-npm", "--no-lock", all],
    cwd: root,
    stderr: "piped",
  }).output();
  await Deno.remove(all);
  assertEquals(code, 0, `deno info: ${new TextDecoder().decode(stderr)}`);
  interface Dependency {
    readonly code?: { readonly specifier?: string };
    readonly type?: { readonly specifier?: string };
  }
  const { modules }: { modules: { specifier: string; dependencies?: Dependency[] }[] } = JSON.parse(
    new TextDecoder().decode(stdout),
  );
  const found = new Map(modules.map(({ specifier, dependencies = [] }) => [specifier, dependencies]));
  return new Map(files.map((file) => {
    const dependencies = found.get(new URL(file, root).href);
    if (dependencies === undefined) throw new Error(`${file} is not in the graph`);
    const targets = dependencies.flatMap(({ code, type }) => [code?.specifier, type?.specifier])
      .filter((target) => target?.startsWith(root.href) && !target.startsWith(`${root.href}.std/`));
    return [file, [...new Set(targets.map((target) => target!.slice(root.href.length)))]];
  }));
}

function isHelper(file: string): boolean {
  return /(^|\/)(cases|.*_cases|(.*_)?testing)\.ts$|^kernels\/testing\//.test(file);
}

/** Whether a file is the place, lies in it, or is one of those that its `*` (part of one name) stands for. */
function within(target: string, place: string): boolean {
  if (place.includes("*")) {
    return new RegExp(`^${RegExp.escape(place).replaceAll("\\*", "[^/]+")}$`).test(target);
  }
  return target === place || target.startsWith(`${place}/`);
}

Deno.test("every entry of the package, every task, and all that they import were looked at", async () => {
  const { exports, tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const entries = Object.values<string>(exports).map((path) => path.replace("./", ""));
  const files = Object.values<string>(tasks).flatMap((line) =>
    line.match(/(?<=^| )[\w/]+\.ts(?= |$)/g) ?? []
  );
  assert(
    entries.length >= 3 && files.includes("experiments/commands/sweep.ts") && entries.includes("build.ts"),
  );
  const wanted = [...entries, ...files, ...[...imports.values()].flat()];
  assertEquals([...new Set(wanted)].filter((file) => file.endsWith(".ts") && !imports.has(file)), []);
});

/** The room that a file lies in, as the picture calls it, and its path there. */
function roomOf(file: string): { room: string; path: string } {
  const [top, ...rest] = file.split("/") as [string, ...string[]];
  if (top !== "lib") return { room: top, path: rest.join("/") };
  if (rest.length === 1 || rest[0] === "math") return { room: "foundations", path: rest.join("/") };
  return rest[0] === "entries"
    ? { room: "mod.ts", path: file }
    : { room: rest[0]!, path: rest.slice(1).join("/") };
}

Deno.test("imports go along the arrows of docs/explain/architecture.md, and along all of them", () => {
  const rooms = new Set(PICTURE.flatMap(({ from, to }) => [from, to]));
  assert(PICTURE.length > 20 && rooms.size > 10, `${PICTURE.length} arrows, ${rooms.size} rooms`);
  const used = new Map<Arrow, Set<string>>(PICTURE.map((arrow) => [arrow, new Set()]));
  const broken: string[] = [];
  for (const [file, targets] of imports) {
    if (isHelper(file)) continue;
    const { room: from } = roomOf(file);
    for (const target of targets) {
      const { room, path } = roomOf(target);
      if (room === from) continue;
      const inLib = target.startsWith("lib/");
      const arrow = PICTURE.find((arrow) =>
        arrow.from === from && (arrow.to === room || (arrow.to === "lib" && inLib)) &&
        (arrow.files?.includes(path) ?? true)
      );
      if (arrow !== undefined) used.get(arrow)!.add(path);
      else if (room !== "foundations") broken.push(`${file} -> ${target}`);
    }
  }
  assertEquals(broken, [], "imports that are not drawn");
  const idle = PICTURE.filter((arrow) =>
    (arrow.files ?? [""]).some((path) => {
      return path === "" ? used.get(arrow)!.size === 0 : !used.get(arrow)!.has(path);
    })
  );
  assertEquals(idle, [], "arrows that no import needs");
});

/** A room's list of what it shows, the files on it, and those of the lists that it names. */
const shownBy = (list: string): string[] => [
  list,
  ...imports.get(list)!.flatMap((file) => file.endsWith("/mod.ts") ? shownBy(file) : [file]),
];

Deno.test("experiments import what rooms show, from the file that has it", () => {
  const shown = new Set(sources.filter((file) => within(file, "lib/*/mod.ts")).flatMap(shownBy));
  assert(shown.has("lib/model/run/sequence.ts") && !shown.has("lib/model/run/forward_pass.ts"));
  const broken = [...imports].flatMap(([file, targets]) =>
    roomOf(file).room !== "experiments" || isHelper(file)
      ? []
      : targets.filter((target) =>
        roomOf(target).room !== "experiments" && !shown.has(target) &&
        !FOR_EXPERIMENTS.some((place) => within(target, place))
      ).map((target) => `${file} -> ${target}`)
  );
  assertEquals(broken, []);
});

Deno.test("lib/ and ffi/ import nothing from JSR and nothing outside the import map", async () => {
  const broken: string[] = [];
  for (const file of imports.keys()) {
    if (!/^(lib|ffi|mod\.ts|build\.ts)/.test(file) || isHelper(file)) continue;
    const text = await Deno.readTextFile(new URL(file, root));
    for (const [, specifier] of text.matchAll(/^(?:import|export)[^"';]*from "([^"]+)"/gm)) {
      if (!/^(\.\.?\/|node:|@huggingface\/|@bufbuild\/)/.test(specifier!)) {
        broken.push(`${file} -> ${specifier}`);
      }
    }
  }
  assertEquals(broken, []);
});

Deno.test("opening a library loads no build code: ffi/ imports ffi/build/ where it is asked to build", async () => {
  let asked = 0;
  for (const file of imports.keys()) {
    if (!within(file, "ffi") || within(file, "ffi/build") || isHelper(file)) continue;
    const text = await Deno.readTextFile(new URL(file, root));
    assert(!/^(import|export) (?!type )[^"';]*from "[^"]*\/build\//m.test(text), file);
    asked += text.match(/await import\("[^"]*\/build\/mod\.ts"\)/g)?.length ?? 0;
  }
  assertEquals(asked, 2);
});

/** Files that import each other in circles, types included: each set of them that a walk along imports comes back to. */
function circlesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  // Tarjan's strongly connected components.
  const index = new Map<string, number>(), low = new Map<string, number>();
  const open: string[] = [], found: string[][] = [];
  const visit = (file: string) => {
    index.set(file, index.size);
    low.set(file, index.get(file)!);
    open.push(file);
    for (const target of graph.get(file) ?? []) {
      if (!index.has(target)) visit(target);
      if (open.includes(target)) low.set(file, Math.min(low.get(file)!, low.get(target)!));
    }
    if (low.get(file) !== index.get(file)) return;
    const circle = open.splice(open.indexOf(file));
    if (circle.length > 1) found.push(circle.sort());
  };
  for (const file of graph.keys()) if (!index.has(file)) visit(file);
  return found;
}

Deno.test("circlesOf() finds what imports itself, over one file or several", () => {
  const graph = new Map(Object.entries({ a: ["b", "d"], b: ["c"], c: ["a"], d: ["e"], e: ["d"], f: ["a"] }));
  assertEquals(circlesOf(graph), [["d", "e"], ["a", "b", "c"]]);
});

Deno.test("imports make no circles of files, types included", () => {
  assertEquals(circlesOf(imports), []);
});

Deno.test("source files of every language stay under 600 lines", async () => {
  const others = await Array.fromAsync(sourceFiles("", /\.(h|def|cpp|cuh?|py|js)$/));
  assert(others.includes("kernels/common/blocks.h"));
  for (const file of [...imports.keys(), ...others]) {
    const lines = (await Deno.readTextFile(new URL(file, root))).split("\n").length;
    assert(lines <= 600, `"${file}" has ${lines} lines: split it where a second idea begins`);
  }
});

Deno.test("a test that is not run says why: unless() of lib/testing.ts puts the reason in its name", async () => {
  const silent: string[] = [];
  for (const file of [...tests, ...imports.keys()].filter((file) => file !== "lib/testing.ts")) {
    const text = await Deno.readTextFile(new URL(file, root));
    if (/^ *(Deno\.test\.ignore|(Deno\.test\(\{.*)?\bignore\b *[:,}])/m.test(text)) silent.push(file);
  }
  assert(tests.length > 100, `${tests.length}`);
  assertEquals(silent, []);
});
