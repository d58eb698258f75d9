/**
 * Checks the language of comments and error messages in the sources of TypeScript, as docs_test.ts checks the docs.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/style/tree.ts [RULE…]
 *
 * Exit code 1: a rule has more findings than `style.json` allows. Its numbers may only fall: they are what was there when
 * the check began. With names of rules it lists their findings; with `--note` it writes the present numbers.
 */
import { readJson, writeWhole } from "../../commands/cli/files.ts";
import { EXIT, type Main, runTask, writeLine } from "../../commands/cli/task.ts";
import { listChanged } from "../check/concern.ts";
import { listTree } from "../machine/checkout.ts";
import { findStyleFaults, RULE_NAMES, type StyleFault } from "../style.ts";
import { readStyledSource } from "./sources.ts";

const ROOT = new URL("../../..", import.meta.url).pathname.replace(/\/$/, "");
/** Sources whose language is not checked yet, and the rules themselves, which quote what they find. */
const UNCHECKED = /^(kernels|ffi\/cuda)\/|^experiments\/tools\/style|testdata\//;
/** The exit code where a rule has more findings than it may. */
const EXIT_FOUND = 1;
/** Findings that are shown of a rule. */
const SHOWN = 40;

export type Allowed = { readonly [rule: string]: number };

/** The findings of a tree's sources, in the order of paths. */
export async function findInSources(root: string): Promise<StyleFault[]> {
  const paths = (await listTree(root)).filter(({ to }) => to.endsWith(".ts") && !UNCHECKED.test(to));
  const texts = await Promise.all(
    paths.map(async ({ from, to }) => await readStyledSource(to, await Deno.readTextFile(from))),
  );
  return findStyleFaults(texts.flat());
}

/**
 * Lines for each rule with more findings than allowed: its findings in changed files, or all where none of these has some.
 *
 * @param changed Paths of the files that differ from HEAD.
 */
export function reportFaults(
  faults: readonly StyleFault[],
  allowed: Allowed,
  changed: ReadonlySet<string>,
): string[] {
  return RULE_NAMES.flatMap((rule) => {
    const all = faults.filter((fault) => fault.rule === rule), limit = allowed[rule] ?? 0;
    if (all.length <= limit) return [];
    const recent = all.filter(({ place }) => changed.has(place.replace(/:\d+$/, "")));
    const shown = (recent.length > 0 ? recent : all).slice(0, SHOWN);
    return [
      `${rule}: ${all.length} findings, at most ${limit} are allowed; ${all[0]!.advice}`,
      ...shown.map(({ place, found }) => `  ${place}: ${found}`),
    ];
  });
}

const main: Main = async (args) => {
  const faults = await findInSources(ROOT), { files } = await listChanged(ROOT, []);
  const path = `${ROOT}/experiments/tools/style.json`;
  if (args.includes("--note")) {
    const counts = RULE_NAMES.map((rule) => [rule, faults.filter((fault) => fault.rule === rule).length]);
    const found = Object.fromEntries(counts.filter(([, count]) => count !== 0));
    await writeWhole(path, `${JSON.stringify(found, null, 2)}\n`);
    return EXIT.ok;
  }
  const allowed = await readJson(path) as Allowed;
  const asked = Object.fromEntries(args.map((rule) => [rule, -1]));
  const lines = reportFaults(faults, { ...allowed, ...asked }, new Set(args.length > 0 ? [] : files));
  for (const line of lines) writeLine(Deno.stdout, line);
  return lines.length === 0 ? EXIT.ok : EXIT_FOUND;
};

if (import.meta.main) await runTask(main);
