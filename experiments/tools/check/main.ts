/** `deno task check`: what CI asks of changed files, and the tests nearest to them. See `deno task check --help`. */
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";
import { plural } from "../../../lib/plural.ts";
import { onOff, under } from "../../commands/cli/flags/flag.ts";
import { EXIT, runCommand, writeLine } from "../../commands/cli/task.ts";
import { plainCommand } from "../../commands/run.ts";

const ROOT = new URL("../../../", import.meta.url);
/** The exit code where a check fails. */
const EXIT_FAILED = 1;
/** Most test files that run besides contracts. */
const MOST_TESTS = 12;

/** Tests that hold the promise of a folder: they run first. */
export const CONTRACTS: readonly (readonly [folder: string, ...tests: string[]])[] = [
  ["lib/methods/", "lib/methods/contract_test.ts", "experiments/tools/docs/docs_test.ts"],
  ["lib/eval/", "lib/eval/tasks"],
  ["lib/model/", "lib/model/tiny_golden_test.ts", "lib/model/run/path_test.ts"],
  ["lib/plot/", "lib/plot/reports"],
  ["lib/", "lib/architecture_test.ts", "lib/entries_test.ts"],
  ["ffi/", "lib/architecture_test.ts"],
  [
    "experiments/commands/",
    "experiments/commands/cli/bad_input_test.ts",
    "experiments/tools/docs/docs_test.ts",
  ],
  ["docs/", "experiments/tools/docs/docs_test.ts"],
  ["README.md", "experiments/tools/docs/docs_test.ts"],
];

/**
 * The tests of some files: contracts, then the nearest.
 *
 * @param tree All files of the checkout, as paths from its root.
 * @param read The text of one of them.
 * @returns Folders and files for `deno task test`; in `left`, tests that name a file and are not among them.
 */
export async function nearestTests(
  changed: readonly string[],
  tree: readonly string[],
  read: (path: string) => Promise<string>,
): Promise<{ readonly tests: readonly string[]; readonly left: readonly string[] }> {
  const contracts = new Set<string>(),
    near = new Set<string>(),
    all = tree.filter((path) => /_test\.ts$/.test(path));
  for (const path of changed) {
    for (const [folder, ...tests] of CONTRACTS) {
      if (path.startsWith(folder)) tests.forEach((test) => contracts.add(test));
    }
    const op = path.match(/^kernels\/\w+(?=\/)/)?.[0];
    if (op !== undefined) {
      all.filter((test) => test.startsWith(`${op}/`)).forEach((test) => contracts.add(test));
    }
    const own = path.replace(/(_test|_?testing)?\.ts$/, "_test.ts");
    if (all.includes(own)) near.add(own);
  }
  const names = changed.map((path) => path.replace(/.*\//, "")).filter((name) => name !== "mod.ts");
  for (const test of all) {
    const text = await read(test);
    if (names.some((name) => text.includes(`/${name}"`))) near.add(test);
  }
  const nearest = [...near].filter((test) => !contracts.has(test));
  return { tests: [...contracts, ...nearest.slice(0, MOST_TESTS)], left: nearest.slice(MOST_TESTS) };
}

async function git(...args: string[]): Promise<string[]> {
  const { success, stdout, stderr } = await run("git", args, { cwd: ROOT });
  if (!success) {
    throw new UsageError(`Cannot list the files to check: ${stderr.trim()} (expected a git checkout)`);
  }
  return stdout.split("\0").filter((path) => path !== "");
}

const isThere = (path: string) => Deno.stat(new URL(path, ROOT)).then(() => true, () => false);

/** Files that were named, or those that differ from HEAD, without deleted ones. */
async function listChanged(named: readonly string[]): Promise<string[]> {
  const others = ["ls-files", "-z", "--others", "--exclude-standard"];
  for (const path of named) {
    if (await isThere(path)) continue;
    throw new UsageError(
      `Cannot check "${path}": found no such file in the checkout, expected files or folders`,
    );
  }
  const paths = named.length > 0
    ? await git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ...named)
    : [...await git("diff", "-z", "--name-only", "--no-renames", "HEAD"), ...await git(...others)];
  const exist = await Promise.all(paths.map(isThere));
  return [...new Set(paths.filter((_, i) => exist[i]))].sort();
}

/** A check: its name and Deno's arguments. */
type Check = readonly [name: string, ...args: string[]];

async function planChecks(files: readonly string[], all: boolean): Promise<Check[]> {
  const { exports }: { exports: Record<string, string> } = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  );
  const entries = Object.values(exports),
    touches = (pattern: RegExp) => all || files.some((path) => pattern.test(path));
  const scripts = all ? [] : files.filter((path) => /\.(ts|js)$/.test(path));
  const pages = (all ? await git("ls-files", "-z", "docs/*/*.md") : files).filter((path) =>
    /^docs\/.*\.md$/.test(path)
  );
  const checks: Check[] = [];
  if (all || scripts.length > 0) {
    checks.push(["format", "fmt", "--check", ...scripts], ["lint", "lint", ...scripts], [
      "types",
      "check",
      ".",
    ]);
  }
  if (touches(/^(lib|ffi)\/|^[^/]*\.ts$/)) {
    const config = "--config=experiments/tools/check/consumer.json";
    checks.push(["docs of exports", "doc", "--lint", ...entries]);
    checks.push(["types under a consumer's strictest settings", "check", config, ...entries]);
  }
  if (pages.length > 0) checks.push(["types of examples in pages", "check", "--doc-only", ...pages]);
  if (all) checks.push(["publishing", "publish", "--dry-run", "--allow-dirty"]);
  else {
    const tree = await git("ls-files", "-z", "--cached", "--others", "--exclude-standard");
    const exist = await Promise.all(tree.map(isThere)), there = tree.filter((_, i) => exist[i]);
    const { tests, left } = await nearestTests(
      files,
      there,
      (path) => Deno.readTextFile(new URL(path, ROOT)),
    );
    const rest = left.length > 0 ? `; without ${plural(left.length, "test file")} that name them` : "";
    const runner = ["run", "-A", "experiments/tools/tests/main.ts"];
    if (tests.length > 0) checks.push([`tests of ${tests.join(", ")}${rest}`, ...runner, ...tests]);
  }
  return checks;
}

/** Runs checks one after the other, and prints a line of each, and the output of those that fail. @returns How many fail. */
export async function runChecks(
  checks: readonly Check[],
  print = (line: string) => writeLine(Deno.stdout, line),
): Promise<number> {
  let failed = 0;
  for (const [name, ...args] of checks) {
    const began = performance.now();
    const { success, stdout, stderr } = await run(Deno.execPath(), args, {
      cwd: ROOT,
      env: { NO_COLOR: "1" },
    });
    const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
    print(`${success ? "passed" : "FAILED"} ${seconds} s  ${name}`);
    if (success) continue;
    failed++;
    print((stdout + stderr).trimEnd());
  }
  return failed;
}

async function work(named: readonly string[], all: boolean): Promise<number> {
  const checks = await planChecks(all ? [] : await listChanged(named), all);
  if (checks.length === 0) {
    writeLine(Deno.stdout, "Nothing to check: no file differs from HEAD");
    return EXIT.ok;
  }
  const failed = await runChecks(checks);
  const rest = all ? "deno task test runs the tests" : "deno task ok runs all checks and tests";
  writeLine(Deno.stdout, `${checks.length - failed} checks passed, ${failed} failed; ${rest}`);
  return failed === 0 ? EXIT.ok : EXIT_FAILED;
}

export const command = plainCommand({
  name: "check",
  summary: "Checks format, lint, types and the docs of exports, then runs the tests nearest to the files.",
  usage: "[FILES] [flags]",
  about:
    `These are the contracts of their folders, tests of the same name, and tests that name them. FILES are files
or folders; default: all that differs from HEAD, and new files. Exit code 0: all of these passed; 1: one failed; 2:
no such file. It runs a part of what CI runs.`,
  words: { least: 0, most: Infinity },
  flags: under("What runs", {
    all: onOff("every file, and what publishing asks; no tests: these are deno task test"),
  }),
  permissions: "-A",
  read: ({ words }) => words,
  work: (named, { values }) => work(named, values.has("all")),
});

if (import.meta.main) await runCommand(command);
