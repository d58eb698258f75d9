/**
 * Expected savings of the presets on large models, against the length of a prompt: a page, and tables in Markdown, one
 * of them with expected next to measured values.
 *
 * usage: deno run -A experiments/studies/costs.ts [--out costs.html]
 */
import { parseArgs } from "@std/cli/parse-args";
import { readPlotly, renderPage } from "../../lib/plot/mod.ts";
import { writeWhole } from "../commands/cli/files.ts";
import { formatMarkdown } from "../commands/cli/output/table.ts";
import { tabulateMeasured } from "./costs/measured.ts";
import { bytesRead, cacheBytes, collectCosts, type CostRow, plotCosts } from "./costs/plots.ts";

/** Lengths of the table. */
const SHOWN = [512, 4096, 32768, 131072];

/** A table of costs, with a row per model, length and method; fractions are of the full model's. */
export function tabulateCosts(rows: readonly CostRow[]) {
  const percent = (part: number, whole: number) => `${(100 * part / whole).toFixed(0)}%`;
  const shown = rows.filter(({ tokens }) => SHOWN.includes(tokens))
    .toSorted((a, b) => a.model < b.model ? -1 : a.model > b.model ? 1 : a.tokens - b.tokens);
  return {
    columns: [
      ...["model", "tokens", "method", "attention TFLOPs", "all TFLOPs", "cache, GB"],
      ...[1, 64].map((batch) => `GB read a token, batch ${batch}`),
    ],
    left: [true, false, true],
    rows: shown.map((row) => {
      const dense = shown.find((other) =>
        other.name === "dense" && other.model === row.model && other.tokens === row.tokens
      )!;
      const cell = (of: (row: CostRow) => number, unit: number) =>
        row === dense ? String(Number((of(row) / unit).toPrecision(3))) : percent(of(row), of(dense));
      return [
        ...[row.model, String(row.tokens), row.name],
        cell(({ cost }) => cost.attentionFlops, 1e12),
        cell(({ cost }) => cost.prefillFlops, 1e12),
        cell(cacheBytes, 1e9),
        ...[1, 64].map((batch) => cell((row) => bytesRead(row, batch), 1e9)),
      ];
    }),
  };
}

if (import.meta.main) {
  const { out } = parseArgs(Deno.args, { string: ["out"], default: { out: "costs.html" } });
  const rows = collectCosts();
  await writeWhole(
    out,
    renderPage({
      sections: plotCosts(rows),
      title: "What the presets are expected to save",
      plotly: await readPlotly(),
    }),
  );
  console.log(`${formatMarkdown(tabulateCosts(rows))}\n\n${formatMarkdown(tabulateMeasured())}`);
}
