/**
 * The tables of docs/results/findings.md, from the committed comparisons in findings/ and results/.
 *
 * usage: deno run -A experiments/studies/cheap_skips/findings.ts
 */
import type { Interval } from "../../../lib/stats/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { percent } from "../comparison/tables.ts";
import {
  isBaseline,
  LEAST_CHUNKS,
  type Losses,
  lossesOf,
  showDistances,
  showNats,
  showStandings,
  simultaneousInterval,
  standingOf,
} from "../comparison/losses.ts";
import { fillPage } from "../comparison/paper.ts";

export type Measured = Losses["methods"][number];

/** A part with its name in a table. */
interface Part extends Losses {
  readonly title: string;
}

/** Parts of the page's tables: a file, and its name in the table. */
const TABLES = {
  "tiny queries": { "findings/tiny_queries": "16", "findings/tiny_paper": "none" },
  keys: { "findings/smollm2-135m_keys": "SmolLM2-135M", "findings/tiny_keys": "`tiny`" },
  compression: {
    "findings/smollm2-135m_keys_0.75_512": "0.75, 512",
    "findings/smollm2-135m_keys_0.9_512": "0.9, 512",
    "findings/smollm2-135m_keys_0.75_2048": "0.75, 2,048",
  },
  local: { "results/smollm2-135m_local": "SmolLM2-135M", "results/tiny_local": "`tiny`" },
} as const;
/** What tells the parts of a table apart. */
const PARTS = {
  "tiny queries": "recent window",
  keys: "model",
  compression: "ratio, chunk",
  local: "model",
} as const;

export async function readFindings(file: string): Promise<Losses> {
  return lossesOf(
    JSON.parse(await Deno.readTextFile(new URL(`${file}.json`, import.meta.url))) as Comparison,
  );
}

/** The random baseline with the same options. */
export const randomOf = ({ methods }: Losses): Measured | undefined =>
  methods.find(({ name }) => name.startsWith("random"));

/** Rules that are compared with random. */
export const rulesOf = ({ methods }: Losses): Measured[] => methods.filter((method) => !isBaseline(method));

/** A difference of losses that holds together with `count - 1` others; none below six chunks. */
export const differenceOf = (
  { chunks }: Losses,
  own: Measured,
  other: Measured | undefined,
  count = 1,
): Interval | undefined =>
  other === undefined || chunks < LEAST_CHUNKS ? undefined : simultaneousInterval(chunks, own, other, count);

/** A row per part and method: the three metrics, what is left of the cache, and the distance from random. */
export function tabulateFindings(parts: readonly Part[], what: string): PlainTable {
  const tested = parts.filter((part) => part.chunks >= LEAST_CHUNKS && randomOf(part) !== undefined);
  const count = tested.reduce((sum, part) => sum + rulesOf(part).length, 0);
  return {
    columns: [
      ...[what, "rule", "KV cache", "loss increase", "minus random", "KL", "top-1"],
      "loss, KL, top-1 against random",
    ],
    left: [true, true],
    rows: parts.flatMap((part) =>
      part.methods.slice(1).map((method) => {
        const random = randomOf(part), isRule = !isBaseline(method), { retained, seeds, nonCausal } = method;
        const increase = differenceOf(part, method, part.methods[0]!);
        const difference = isRule ? differenceOf(part, method, random, count) : undefined;
        return [
          ...[part.title, `\`${method.name.replace(/ for .*/, "")}\`${seeds > 1 ? `, ${seeds} seeds` : ""}`],
          percent(retained.cache),
          increase === undefined ? `+${method.lossIncrease!.estimate.toFixed(3)}` : showNats(increase),
          difference === undefined ? "-" : showNats(difference),
          ...showDistances(method),
          nonCausal
            ? "non-causal"
            : difference === undefined
            ? "-"
            : showStandings({ ...method.blockTests, loss: standingOf(difference) }),
        ];
      })
    ),
  };
}

/** The tables of the page, by the names that its comments give them. */
export async function makeFindings(): Promise<{ readonly [name: string]: string }> {
  const tables = await Promise.all(
    Object.entries(TABLES).map(async ([name, files]) => {
      const parts = await Promise.all(
        Object.entries(files).map(async ([file, title]) => ({ title, ...await readFindings(file) })),
      );
      return [name, formatMarkdown(tabulateFindings(parts, PARTS[name as keyof typeof PARTS]))];
    }),
  );
  return Object.fromEntries(tables);
}

export const PAGE = new URL("../../../docs/results/findings.md", import.meta.url);

if (import.meta.main) {
  await Deno.writeTextFile(PAGE, fillPage(await Deno.readTextFile(PAGE), await makeFindings()));
}
