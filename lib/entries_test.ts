/** The front door: what the package exports, from where, and that it says what it is for. */
import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);
const NAME = "@tokenfilter/tokenfilter";
const { exports, tasks }: Record<"exports" | "tasks", Record<string, string>> = JSON.parse(
  await read("deno.json"),
);

interface Documented {
  readonly jsDoc?: { readonly doc?: string };
}
interface Documentation extends Documented {
  readonly module_doc: { readonly doc: string };
  readonly symbols: readonly { readonly name: string; readonly declarations: readonly Documented[] }[];
}

/** Per specifier, what `deno doc` says of its entry. */
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

Deno.test("the entries are mod.ts, ffi/mod.ts, build.ts and the files of lib/entries/, which the gates look at", () => {
  const files = Array.from(Deno.readDirSync(new URL("entries/", import.meta.url)), ({ name }) => name);
  assertEquals(
    exports,
    {
      ".": "./mod.ts",
      "./ffi": "./ffi/mod.ts",
      "./build": "./build.ts",
      ...Object.fromEntries(files.map((name) => [`./${name.replace(".ts", "")}`, `./lib/entries/${name}`])),
    },
  );
  assert(tasks.gates!.includes("deno doc --lint mod.ts lib/entries/*.ts ffi/mod.ts build.ts"));
});

Deno.test("a user of . has at most 40 names to learn, and no name comes from two entries", () => {
  const front = namesOf(NAME);
  assert(front.length >= 20 && front.length <= 40, `${front.length} names`);
  const homes = Map.groupBy(
    [...entries.keys()].flatMap((specifier) => namesOf(specifier).map((name) => ({ name, specifier }))),
    ({ name }) => name,
  );
  assertEquals([...homes.values()].filter((found) => found.length > 1), []);
});

Deno.test("every name has its docs, and every entry says what it is for, with a sample, in its first ten lines", () => {
  for (const [specifier, { module_doc: { doc }, symbols }] of entries) {
    const mute = symbols.filter(({ declarations }) => !declarations.some(({ jsDoc }) => jsDoc?.doc));
    assertEquals(mute, [], specifier);
    const [, sample] = doc.split("\n").slice(0, 10).join("\n").match(/^\w.*?^```ts\n(.*?)^```$/ms) ?? [];
    assert(sample?.includes("console.assert(") && sample.includes(`from "${specifier}"`), specifier);
  }
});

/** Code of a notebook, or a text as it stands. */
async function codeOf(path: string): Promise<string> {
  const text = await read(path);
  if (!path.endsWith(".ipynb")) return text;
  return JSON.parse(text).cells.map(({ source }: { source: string[] }) => source.join("")).join("\n");
}

Deno.test("notebooks, README and docs import names that an entry exports", async () => {
  const files = ["README.md"], wrong: string[] = [];
  for (const folder of ["docs", "notebooks"]) {
    for (const { name, isFile } of Deno.readDirSync(new URL(folder, ROOT))) {
      if (isFile) files.push(`${folder}/${name}`);
    }
  }
  let count = 0;
  for (const file of files) {
    const code = await codeOf(file);
    for (const [, list, specifier] of code.matchAll(/^import ([^;"]*) from "(?:jsr:)?([^"]*)";$/gm)) {
      const known = entries.has(specifier!) ? namesOf(specifier!) : [];
      const [, space] = list!.match(/^\* as (\w+)$/) ?? [];
      const names = space === undefined
        ? list!.replaceAll("type ", "").match(/(?<=[{,]\s*)\w+/g)!
        : Array.from(code.matchAll(new RegExp(`\\b${space}\\.(\\w+)`, "g")), ([, name]) => name!);
      count += names.length;
      wrong.push(...names.filter((name) => !known.includes(name)).map((name) => `${file}: ${name}`));
    }
  }
  assert(count > 60, `${count} names`);
  assertEquals(wrong, []);
});
