/** Tests of the package's entries: the names that they export, and that each has a description. */
import { assert, assertEquals } from "@std/assert";
import { OPTION_NAMES } from "./methods/mod.ts";

const ROOT = new URL("../", import.meta.url);
const NAME = "@tokenfilter/tokenfilter";
const { exports }: Record<"exports", Record<string, string>> = JSON.parse(
  await read("deno.json"),
);

interface Documented {
  readonly jsDoc?: { readonly doc?: string };
}
interface Documentation extends Documented {
  readonly module_doc: { readonly doc: string };
  readonly symbols: readonly { readonly name: string; readonly declarations: readonly Documented[] }[];
}

/** Output of `deno doc` about the entry of each specifier. */
const entries = new Map<string, Documentation>();
const { stdout } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--json", ...Object.values(exports)],
  cwd: ROOT,
  stderr: "inherit",
}).output();
const { nodes } = JSON.parse(new TextDecoder().decode(stdout));
for (const [entry, path] of Object.entries(exports)) {
  entries.set(NAME + entry.slice(1), nodes[new URL(path, ROOT).href]);
}

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(path, ROOT));
}

function namesOf(specifier: string): string[] {
  return entries.get(specifier)!.symbols.map(({ name }) => name);
}

Deno.test("the entries are mod.ts, ffi/mod.ts, ffi/wasm/mod.ts, build.ts and the files of lib/entries/", () => {
  const files = Array.from(Deno.readDirSync(new URL("entries/", import.meta.url)), ({ name }) => name);
  assertEquals(
    exports,
    {
      ".": "./mod.ts",
      "./ffi": "./ffi/mod.ts",
      "./wasm": "./ffi/wasm/mod.ts",
      "./build": "./build.ts",
      ...Object.fromEntries(files.map((name) => [`./${name.replace(".ts", "")}`, `./lib/entries/${name}`])),
    },
  );
});

Deno.test("there are at most 151 names, 40 of them in ., each listed by one entry", async () => {
  const front = namesOf(NAME);
  assert(front.length >= 20 && front.length <= 40, `${front.length} names`);
  const names = [...entries.keys()].flatMap((specifier) =>
    namesOf(specifier).map((name) => ({ name, specifier }))
  );
  assert(names.length > 100 && names.length <= 151, `${names.length} names`);
  const homes = Map.groupBy(names, ({ name }) => name);
  assertEquals([...homes.values()].filter((found) => found.length > 1), []);
  for (const path of Object.values(exports)) assert(!/^export \*/m.test(await read(path)), path);
});

Deno.test("every name has its docs, and every entry says what it is for, with a sample, in its first ten lines", () => {
  for (const [specifier, { module_doc: { doc }, symbols }] of entries) {
    const mute = symbols.filter(({ declarations }) => !declarations.some(({ jsDoc }) => jsDoc?.doc));
    assertEquals(mute, [], specifier);
    const [, sample] = doc.split("\n").slice(0, 10).join("\n").match(/^\w.*?^```ts\n(.*?)^```$/ms) ?? [];
    assert(sample?.includes("console.assert(") && sample.includes(`from "${specifier}"`), specifier);
  }
});

Deno.test("deno doc says what each option of a method does", () => {
  const { declarations } = entries.get(NAME)!.symbols.find(({ name }) => name === "MethodOptions")!;
  const { properties } =
    (declarations[0] as unknown as { def: { properties: (Documented & { name: string })[] } })
      .def;
  assertEquals(properties.map(({ name }) => name).sort(), [...OPTION_NAMES].sort());
  assertEquals(properties.filter(({ jsDoc }) => !jsDoc?.doc), []);
});

/** Code that shows how the package is used: of a notebook, of a page, or of the examples of a source file. */
async function samplesOf(path: string): Promise<string> {
  const text = await read(path);
  if (path.endsWith(".md")) return text;
  if (path.endsWith(".ts")) {
    const blocks = text.matchAll(/^ *\* ```ts\n(.*?)^ *\* ```$/gms);
    return Array.from(blocks, ([, block]) => block!.replaceAll(/^ *\* ?/gm, "")).join("");
  }
  return JSON.parse(text).cells.map(({ source }: { source: string[] }) => source.join("")).join("\n");
}

/** Names that a file's samples take from each entry. */
async function importsOf(path: string): Promise<{ readonly specifier: string; readonly name: string }[]> {
  const code = await samplesOf(path);
  const statements = code.matchAll(/^import ([^;"]*) from "(?:jsr:)?(@tokenfilter\/tokenfilter[^"]*)";$/gm);
  return Array.from(statements, ([, list, specifier]) => {
    const [, space] = list!.match(/^\* as (\w+)$/) ?? [];
    const names = space === undefined
      ? list!.replaceAll("type ", "").match(/(?<=[{,]\s*)\w+/g)!
      : Array.from(code.matchAll(new RegExp(`\\b${space}\\.(\\w+)`, "g")), ([, name]) => name!);
    return names.map((name) => ({ specifier: specifier!, name }));
  }).flat();
}

/** Files of a folder, and of its folders, by their ending. */
async function listFiles(folder: string, ending: RegExp): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(new URL(folder, ROOT)));
  const found = await Promise.all(entries.map(async ({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return await listFiles(path, ending);
    return ending.test(name) ? [path] : [];
  }));
  return found.flat();
}

Deno.test("samples import names that an entry exports, and every name is in a sample", async () => {
  const files = [
    ...["README.md", "mod.ts", "build.ts"],
    ...await listFiles("docs", /\.md$/),
    ...await listFiles("notebooks", /\.ipynb$/),
    ...await listFiles("lib", /(?<!_test)\.ts$/),
    ...await listFiles("ffi", /(?<!_test)\.ts$/),
  ];
  const known = new Map([...entries.keys()].map((specifier) => [specifier, namesOf(specifier)]));
  const wrong: string[] = [], shown = new Set<string>();
  for (const file of files) {
    for (const { specifier, name } of await importsOf(file)) {
      if (known.get(specifier)?.includes(name)) shown.add(name);
      else wrong.push(`${file}: ${name}`);
    }
  }
  assertEquals(wrong, []);
  const all = [...known.values()].flat();
  assertEquals(all.filter((name) => !shown.has(name)), []);
});
