/**
 * Checks the language of comments and error messages in the sources of TypeScript, as docs_test.ts checks the docs.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/style/tree.ts
 *
 * Exit code 1: a rule has findings; they are printed with their places.
 */
import { plural } from "../../../lib/plural.ts";
import { EXIT, type Main, runTask, writeLine } from "../../commands/cli/task.ts";
import { listTree } from "../machine/checkout.ts";
import { findStyleFaults, RULE_NAMES, type StyleFault } from "../style.ts";
import { readStyledSource } from "./sources.ts";

const ROOT = new URL("../../..", import.meta.url).pathname.replace(/\/$/, "");
/** The rules themselves, which quote their findings, and test data. */
const UNCHECKED = /^experiments\/tools\/style|testdata\//;
/** The exit code where a rule has findings. */
const EXIT_FOUND = 1;
/** Findings that are shown of a rule. */
const SHOWN = 40;

/** The findings of a tree's sources, in the order of paths. */
export async function findInSources(root: string): Promise<StyleFault[]> {
  const paths = (await listTree(root)).filter(({ to }) => to.endsWith(".ts") && !UNCHECKED.test(to));
  const texts = await Promise.all(
    paths.map(async ({ from, to }) => await readStyledSource(to, await Deno.readTextFile(from))),
  );
  return findStyleFaults(texts.flat());
}

/** Lines for each rule that has findings. */
export function reportFaults(faults: readonly StyleFault[]): string[] {
  return RULE_NAMES.flatMap((rule) => {
    const own = faults.filter((fault) => fault.rule === rule);
    if (own.length === 0) return [];
    return [
      `${rule}: ${plural(own.length, "finding")}; ${own[0]!.advice}`,
      ...own.slice(0, SHOWN).map(({ place, found }) => `  ${place}: ${found}`),
    ];
  });
}

const main: Main = async () => {
  const lines = reportFaults(await findInSources(ROOT));
  for (const line of lines) writeLine(Deno.stdout, line);
  return lines.length === 0 ? EXIT.ok : EXIT_FOUND;
};

if (import.meta.main) await runTask(main);
