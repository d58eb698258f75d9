/** Tests of README and the docs: links work, commands run, and statements follow the code. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { buildCpu } from "../../../build.ts";
import { EVICTIONS, KEY_RULES, METHODS, OFFLINE } from "../../../lib/methods/list.ts";
import { findCompiler } from "../../../ffi/build/command.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { runTask, withFolder } from "../../commands/testing.ts";
import { renderReferencePages } from "./reference_pages.ts";
import { anchorOf } from "./site/anchor.ts";
import { listTree } from "../machine/checkout_testing.ts";

const root = new URL("../../../", import.meta.url);
const paths = ["README.md", "CONTRIBUTING.md", "kernels/README.md"];
/** Markdown files under a folder. */
async function listPages(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(new URL(`${folder}/`, root)));
  const pages = await Promise.all(entries.map(({ name, isDirectory }) => {
    if (isDirectory) return listPages(`${folder}/${name}`);
    return name.endsWith(".md") ? [`${folder}/${name}`] : [];
  }));
  return pages.flat().sort();
}
paths.push(...await listPages("docs"));
for (const shelf of ["commands", "studies", "tools"]) {
  for await (const { name, isDirectory } of Deno.readDir(new URL(`experiments/${shelf}/`, root))) {
    const path = `experiments/${shelf}/${name}/README.md`;
    if (isDirectory && await exists(path)) paths.push(path);
  }
}
paths.push("experiments/studies/comparison/items.md", "experiments/studies/comparison/guessed.md");
const docs = new Map(await Promise.all(paths.map(async (path) => [path, await read(path)] as const)));
const { tasks }: { tasks: Record<string, string> } = JSON.parse(await read("deno.json"));

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(path, root));
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(new URL(path, root)).then(() => true, () => false);
}

Deno.test("README, docs, scripts and the steps of .ci start one version of Deno, and not any", async () => {
  const scripts = ["experiments/commands/optuna_study.py"];
  for await (const { name } of Deno.readDir(new URL(".ci/", root))) scripts.push(`.ci/${name}`);
  const texts = [...docs.values(), ...await Promise.all(scripts.map(read))];
  const versions = texts.flatMap((text) =>
    Array.from(text.matchAll(/\bdeno@([\w.]+)/g), ([, version]) => version!)
  );
  assert(versions.length > 10);
  const [version, ...others] = new Set(versions);
  assertEquals(others, []);
  assert(/^\d+\.\d+\.\d+$/.test(version!), version);
});

Deno.test("README counts no more methods than are listed", () => {
  const text = docs.get("README.md")!.replaceAll(/\s+/g, " ");
  const counted = (what: string) => Number(text.match(`(\\d+) ${what}`)![1]);
  assert(counted("scoring rules") <= METHODS.length + KEY_RULES.length);
  assert(counted("cache evictions") <= EVICTIONS.length);
  assert(counted("offline methods") <= OFFLINE.length);
});

/** A text without its code blocks. */
function proseOf(text: string): string {
  return text.replaceAll(/^ *```.*?^ *```/gms, "");
}

Deno.test("links in the docs lead to files and headings that are there", async () => {
  const broken: string[] = [];
  for (const [path, text] of docs) {
    const targets = [...proseOf(text).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)];
    for (const [, link, source] of targets) {
      const target = link ?? source!;
      if (/^https?:/.test(target)) continue;
      const [file, anchor] = target.split("#") as [string, string?];
      const url = file === "" ? new URL(path, root) : new URL(file, new URL(path, root));
      const inside = url.href.slice(root.href.length);
      if (!await exists(inside)) broken.push(`${path}: ${target}`);
      else if (anchor !== undefined) {
        const headings = Array.from((await read(inside)).matchAll(/^#+ (.*)$/gm), ([, heading]) => heading!);
        if (!headings.map(anchorOf).includes(anchor)) broken.push(`${path}: ${target}`);
      }
    }
  }
  assertEquals(broken, []);
});

Deno.test("the reference pages that follow from code are up to date", async () => {
  const pages = await renderReferencePages();
  for (const [path, text] of pages) {
    assertEquals(docs.get(path), text, "run experiments/tools/docs/reference_pages.ts");
  }
  const commands = (paths: Iterable<string>) => [...paths].filter((path) => path.includes("/cli/")).sort();
  assertEquals(commands(docs.keys()), commands(pages.keys()));
});

/** Sources of the repository that read the environment; in tests only variables of `TOKENFILTER_` count. */
const SOURCES = /^(?!results\/).*\.(ts|cpp|cuh?|h|py|ipynb|sh)$|^\.ci\/[^.]+$/;

Deno.test("docs/reference/environment.md lists the environment variables that the code reads, and no others", async () => {
  const read = new Set<string>(), named = new Set<string>();
  for (const path of await listTree(fileURLToPath(root))) {
    if (!SOURCES.test(path) || path.includes("testdata/")) continue;
    const text = await Deno.readTextFile(new URL(path, root));
    // Guards of headers look like variables.
    const own = Array.from(text.matchAll(/\bTOKENFILTER_[A-Z_]*[A-Z]\b(?<!_H)/g), ([name]) => name);
    const asked = /_test\.ts$|^\.ci\//.test(path)
      ? []
      : text.matchAll(/(?:\benv\.get|\bgetenv|\benviron\.get|\bget)\(\\?"([A-Z][A-Z_]+)\\?"/g);
    for (const name of [...own, ...Array.from(asked, ([, name]) => name!)]) read.add(name);
    for (const [name] of text.matchAll(/\b[A-Z]+_[A-Z_]+\b/g)) named.add(name);
  }
  const page = Array.from(
    docs.get("docs/reference/environment.md")!.matchAll(/^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|/gm),
    ([, names]) => names!.split(", ").map((name) => name.replaceAll("`", "")),
  ).flat();
  assertEquals([...read].filter((name) => !page.includes(name)), [], "that the page does not list");
  assertEquals(page.filter((name) => !read.has(name) && !named.has(name)), [], "that the code does not read");
  assertEquals(page.length, new Set(page).size);
});

/** A command of the docs: a task with its arguments, as they stand there. */
interface Command {
  readonly path: string;
  readonly task: string;
  readonly args: readonly string[];
}

const commands: Command[] = [...docs].flatMap(([path, text]) =>
  Array.from(
    text.replaceAll(/\s#.*$/gm, "").matchAll(/deno(?:@2)? task ([a-z:]+)((?: +[^\s`|)…,;]\S*)*)/g),
    ([, task, rest]) => ({ path, task: task!, args: rest!.split(/[ `]+/).filter((arg) => arg !== "") }),
  )
);

Deno.test("every task that the docs name is a task, and takes the flags that are named with it", async () => {
  assert(commands.length > 30, `${commands.length} commands found`);
  const help = new Map<string, string>();
  const wrong: string[] = [];
  for (const { path, task, args } of commands) {
    if (!Object.hasOwn(tasks, task)) {
      wrong.push(`${path}: deno task ${task}`);
      continue;
    }
    for (const flag of args.filter((arg) => /^--\w/.test(arg)).map((arg) => arg.replace(/[^\w-].*/, ""))) {
      if (!help.has(task)) help.set(task, await describe(task));
      if (!new RegExp(`${flag}\\b`).test(help.get(task)!)) wrong.push(`${path}: deno task ${task} ${flag}`);
    }
  }
  assertEquals(wrong, []);
});

/** The list of a task's flags: its help, or the error of a task without one. */
async function describe(task: string): Promise<string> {
  const { stdout, stderr } = await runTask(task, "--help=all");
  return stdout + stderr;
}

Deno.test("the C program of the docs compiles without a warning, and filters as its page says", () =>
  withFolder(async (folder) => {
    const page = docs.get("docs/guides/use-in-your-engine.md")!;
    const [, source] = page.match(/^```c\n(.*?)^```/ms)!, [, expected] = page.match(/\.\/sample +# (.*)$/m)!;
    await Deno.writeTextFile(`${folder}/sample.c`, source!);
    const [{ path }, { command }] = await Promise.all([buildCpu(), findCompiler()]);
    const include = fileURLToPath(new URL("ffi/embed", root));
    const flags = ["-x", "c", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", include, `${folder}/sample.c`];
    const run = async (command: string, args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(command, { args }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      return { code, stdout: text(stdout), stderr: text(stderr) };
    };
    await Deno.mkdir(`${folder}/engine`);
    const library = `${folder}/engine/libtokenfilter_cpu.so`,
      [, link] = page.match(/ (-Wl,-rpath,)'\$ORIGIN/)!;
    await Deno.copyFile(path, library);
    const rest = ["-x", "none", library, `${link}$ORIGIN/engine`, "-lm", "-o", `${folder}/sample`];
    const built = await run(command, [...flags, ...rest]);
    assertEquals(built, { code: 0, stdout: "", stderr: "" });
    assertEquals(await run(`${folder}/sample`, []), { code: 0, stdout: `${expected}\n`, stderr: "" });
  }));

/** The cells of a text's first table as commands print it: a map by column for each row. */
function readTable(text: string): ReadonlyMap<string, string>[] {
  const lines = text.split("\n"), under = lines.findIndex((line) => /^-+( {2}-+)+$/.test(line));
  const spans = [...lines[under]!.matchAll(/-+/g)].map(({ 0: { length }, index }) => [index, index + length]);
  const end = lines.findIndex((line, i) => i > under && /^(```)?$/.test(line));
  const cells = (line: string) => spans.map(([from, to]) => line.slice(from, to).trim());
  const names = cells(lines[under - 1]!);
  return lines.slice(under + 1, end).map((line) => new Map(cells(line).map((cell, i) => [names[i]!, cell])));
}

Deno.test({
  ...unless(IN_SLOW_TIER, "README and the quickstart show rows of the default sweep"),
  fn: () =>
    withFolder(async (folder) => {
      const { code, stdout, stderr } = await runTask("sweep", "--quiet", "--out", folder);
      assertEquals(code, 0, stderr);
      const found = readTable(stdout);
      for (const page of ["README.md", "docs/start/quickstart.md"]) {
        for (const row of readTable(docs.get(page)!)) {
          const own = found.find((own) => ["ratio", "rule"].every((name) => own.get(name) === row.get(name)));
          for (const [name, cell] of row) {
            const now = own?.get(name) ?? "no such row";
            // Levels of the processor round otherwise.
            const isNear = Math.abs(parseFloat(now) - parseFloat(cell)) <= 0.002 * Math.abs(parseFloat(cell));
            assert(
              isNear || now === cell,
              `${page}, ${row.get("rule")}: found ${name} ${cell}, expected ${now}`,
            );
          }
        }
      }
    }),
});

/** Small sizes, for commands of the docs that do not set their own. */
const SMALL = ["--model", "tiny", "--tokens", "128", "--context", "64", "--quiet"];

Deno.test("the commands of README run, with small sizes", () =>
  withFolder(async (folder) => {
    const text = `${folder}/text.txt`;
    await Deno.writeTextFile(text, "It was the best of times, it was the worst of times. ".repeat(20));
    const named = [...docs.get("README.md")!.matchAll(/`deno task (\w+) (--[^`]*)`/g)];
    const runs = named.filter(([, task]) => ["sweep", "score", "compare"].includes(task!));
    assertEquals(runs.map(([, task]) => task).sort(), ["compare", "score", "sweep"]);
    const results: string[] = [];
    for (const [, task, given] of runs) {
      const args = given!.trim().replace("FILE", text).split(/ +/).filter((arg) => arg !== "");
      const small = task === "score" ? [] : SMALL, out = `${folder}/${task}`;
      const { code, stderr } = await runTask(
        task!,
        ...args,
        ...small,
        ...task === "score" ? [] : ["--out", out],
      );
      assertEquals(code, 0, stderr);
      if (task !== "score") results.push(out);
    }
    const { code, stderr } = await runTask("report", ...results, "--out", `${folder}/site`);
    assertEquals(code, 0, stderr);
    assert((await Deno.stat(`${folder}/site/index.html`)).isFile);
  }));
