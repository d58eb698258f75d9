/**
 * Sizes of the project: lines of each room, and public names of each entry, next to their budgets.
 *
 * ```sh
 * deno task size # exit code 1 where a room or the entries are over budget
 * ```
 *
 * Budgets are `experiments/tools/size.json`. Tests, their helpers, cases and data do not count.
 */
import { listTree } from "./machine/checkout.ts";
import { runDeno } from "../commands/cli/machine/deno.ts";
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** The exit code where something is over budget. */
const EXIT_OVER = 1;
/** Sources that a reader of the product reads. */
const SOURCE = /\.(ts|h|def|cpp|cuh?)$/;
const HELPER = /(^|\/)((.*_)?(test|testing|cases)\.ts$|testing\/|testdata\/)/;

export const USAGE = `Usage: deno task size

Prints the lines of each room and the public names of each entry, with their budgets (experiments/tools/size.json).
Exit code 1: something is over budget.`;

/** Upper limits of the sizes. */
export interface Budgets {
  /** Lines by room: a folder or a file, or several, separated by ", ". */
  readonly lines: Readonly<Record<string, number>>;
  /** Public names of all entries. */
  readonly names: number;
}

/**
 * Lines of sources by room; those of no room under "".
 *
 * @param files Lines of each tracked file.
 */
export function countLines(
  rooms: readonly string[],
  files: ReadonlyMap<string, number>,
): Map<string, number> {
  const found = new Map(rooms.map((room) => [room, 0]));
  for (const [path, lines] of files) {
    if (!SOURCE.test(path) || HELPER.test(path)) continue;
    const holds = (room: string) => room.split(", ").some((part) => `${path}/`.startsWith(`${part}/`));
    const room = rooms.find(holds) ?? "";
    found.set(room, (found.get(room) ?? 0) + lines);
  }
  return found;
}

/** Lines of text with each count next to its budget, and the number of exceeded budgets. */
export function reportSizes(
  budgets: Budgets,
  found: ReadonlyMap<string, number>,
  names: number,
): { readonly lines: readonly string[]; readonly over: number } {
  const sum = (counts: Iterable<number>) => [...counts].reduce((a, b) => a + b, 0);
  const rows: [string, number, number][] = [
    ...Array.from(found, ([room, count]): [string, number, number] => {
      return [room === "" ? "in no room" : room, count, budgets.lines[room] ?? 0];
    }),
    ["lines in all", sum(found.values()), sum(Object.values(budgets.lines))],
    ["public names", names, budgets.names],
  ];
  const lines = rows.map(([what, count, budget]) => {
    const verdict = count > budget ? "  over budget" : "";
    return `${String(count).padStart(6)} of ${String(budget).padStart(6)}  ${what}${verdict}`;
  });
  return { lines, over: rows.filter(([, count, budget]) => count > budget).length };
}

/** Public names of the entries, each counted once for an entry. */
async function countNames(): Promise<number> {
  const { exports }: { exports: Record<string, string> } = JSON.parse(
    await Deno.readTextFile(`${ROOT}/deno.json`),
  );
  const found = await runDeno("list the public names", "doc", "--json", ...Object.values(exports));
  const { nodes }: { nodes: Record<string, { symbols?: unknown[] }> } = JSON.parse(found);
  return Object.values(nodes).reduce((sum, { symbols = [] }) => sum + symbols.length, 0);
}

/** Runs the task; its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  parseOwnFlags(args, [], []);
  const budgets: Budgets = JSON.parse(await Deno.readTextFile(`${ROOT}/experiments/tools/size.json`));
  const files = new Map<string, number>();
  for (const { from, to } of await listTree(ROOT)) {
    if (SOURCE.test(to)) files.set(to, (await Deno.readTextFile(from)).split("\n").length - 1);
  }
  const found = countLines(Object.keys(budgets.lines), files);
  const { lines, over } = reportSizes(budgets, found, await countNames());
  for (const line of lines) writeLine(Deno.stdout, line);
  return over === 0 ? EXIT.ok : EXIT_OVER;
}

if (import.meta.main) await runTask(main, USAGE);
