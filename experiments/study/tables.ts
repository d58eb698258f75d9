/**
 * The tables of README.md, from the comparisons in results/.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/study/tables.ts PART
 */
import { findMetric } from "../../lib/eval/mod.ts";
import { formatInterval } from "../../lib/plot/mod.ts";
import { BUDGETS, type Comparison, type Opposed } from "../../lib/sweep/mod.ts";
import { formatMarkdown } from "../cli/table.ts";

/** Budgets that are shown. */
const SHOWN = ["pairs", "rows", "projectionFlops", "parameters"] as const;

type Comparisons = Pick<Comparison, "methods" | "results">;

const percent = (share: number) => `${(100 * share).toFixed(0)}%`;
const verdictOf = (opposed: Opposed | undefined) => opposed?.verdict ?? "-";

const rivalOf = (opposed: Opposed | undefined) =>
  opposed === undefined
    ? "-"
    : `${opposed.verdict} ${opposed.verdict === "not told apart" ? "from" : "than"} ${opposed.name}`;

/** A row a method: what it costs on the text, beside its own chance, and what it spends. */
export function tabulateText({ methods, results }: Comparisons) {
  const judged = new Map(
    results!.filter(({ task, metric }) => task.startsWith("perplexity") && metric === "perplexity")
      .map((row) => [row.method, row]),
  );
  return {
    columns: [
      ...["method", "nats above dense", "nats above its chance", "vs chance", "vs rival"],
      ...SHOWN.map((name) => BUDGETS[name].label),
    ],
    left: [true],
    rows: methods.filter(({ name }) => name !== "dense").map((own) => {
      const row = judged.get(own.name), chance = own.toProtected ?? own.toRandom;
      return [
        `${own.name}${own.missed ? " !" : ""}`,
        formatInterval(own.toDense!, 3),
        chance === null ? "-" : formatInterval(chance, 3),
        verdictOf(row?.against.control),
        rivalOf(row?.against.rival),
        ...SHOWN.map((name) => percent(own.shares[name])),
      ];
    }),
  };
}

/** A row a method and metric of the tasks of items: the change from dense in points, and the verdicts. */
export function tabulateItems({ results }: Comparisons) {
  const rows = results!.filter(({ task, metric }) =>
    !task.startsWith("perplexity") && findMetric(task, metric).percent === true
  );
  return {
    columns: ["task", "metric", "method", "value", "change from dense", "vs dense", "vs chance", "vs rival"],
    left: [true, true, true],
    rows: rows.map(({ task, metric, method, value, against: { dense, control, rival } }) => [
      ...[task, metric, method, `${(100 * value).toFixed(1)}%`],
      dense === undefined
        ? "-"
        : formatInterval({ estimate: 100 * dense.estimate, low: 100 * dense.low, high: 100 * dense.high }, 1),
      ...[verdictOf(dense), verdictOf(control), rivalOf(rival)],
    ]),
  };
}

/** Reads the comparison of a part that is over. */
export async function readPart(part: string): Promise<Comparison> {
  return JSON.parse(await Deno.readTextFile(new URL(`results/${part}.json`, import.meta.url)));
}

/** A part's table, in Markdown. */
export function showPart(part: string, comparison: Comparison): string {
  return formatMarkdown((/^(text|fitted)/.test(part) ? tabulateText : tabulateItems)(comparison));
}

if (import.meta.main) {
  const [part] = Deno.args;
  if (part === undefined) {
    console.error("Cannot make a table: expected the name of a file in results/, as text_short_0.5");
    Deno.exit(2);
  }
  console.log(showPart(part, await readPart(part)));
}
