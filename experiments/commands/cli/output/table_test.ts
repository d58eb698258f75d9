import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors.ts";
import { tabulateComparison, tabulateTrials } from "../../../../lib/plot/mod.ts";
import { makeSummary, makeTrial } from "../../../../lib/plot/testing.ts";
import { expandGrids, FULL_GRID } from "../../../../lib/sweep/mod.ts";
import { SPARE_COLUMNS as SPARE_IN_COMPARE } from "../../compare.ts";
import { SPARE_COLUMNS as SPARE_IN_SWEEP } from "../../sweep.ts";
import { TABLE } from "../flags/flags.ts";
import { parseArguments } from "../flags/parse.ts";
import { fitColumns, formatLatex, formatMarkdown, formatTable, printTable, readTable } from "./table.ts";

const table = {
  columns: ["ratio", "rule", "loss", "KL"],
  hints: ["the ratio", "the rule", "nats", "divergence"],
  left: [false, true, false, false],
  rows: [["0.5", "key", "1.25", "0.1"], ["0.25", "a|b_c", "12.5", "10%"]],
};

Deno.test("formatTable() lines columns up, and goes on below itself where it is too wide", () => {
  assertEquals(
    formatTable(table),
    [
      "ratio  rule   loss   KL",
      "-----  -----  ----  ---",
      "  0.5  key    1.25  0.1",
      " 0.25  a|b_c  12.5  10%",
    ].join("\n"),
  );
  assertEquals(formatTable(table, 23), formatTable(table));
  const [first, second] = formatTable(table, 22).split("\n\n");
  assertEquals(first!.split("\n")[0], "ratio  rule   loss");
  assertEquals(second!.split("\n"), [
    "ratio  rule    KL",
    "-----  -----  ---",
    "  0.5  key    0.1",
    " 0.25  a|b_c  10%",
  ]);
  // Each part repeats the columns that name the rows, and has at least one other column, even a too wide one.
  assertEquals(formatTable(table, 5).split("\n\n").map((part) => part.split("\n")[0]), [
    "ratio  rule   loss",
    "ratio  rule    KL",
  ]);
  const numbers = { columns: ["token", "a", "b"], rows: [["0", "1", "2"]], left: [] };
  assertEquals(formatTable(numbers, 8).split("\n\n").map((part) => part.split("\n")[0]), [
    "token  a",
    "token  b",
  ]);
});

Deno.test("fitColumns() leaves out no more than it must, in the given order", () => {
  const names = (width: number) => fitColumns(table, width, ["KL", "none", "ratio"]).columns;
  assertEquals(names(23), table.columns);
  assertEquals(names(22), ["ratio", "rule", "loss"]);
  assertEquals(names(17), ["rule", "loss"]);
  assertEquals(names(1), ["rule", "loss"]);
  assertEquals(fitColumns(table, 17, ["KL", "ratio"]).hints, ["the rule", "nats"]);
});

Deno.test("formatMarkdown() and formatLatex() let no cell become markup", () => {
  assertEquals(formatMarkdown(table).split("\n"), [
    "| ratio | rule | loss | KL |",
    "| ---: | --- | ---: | ---: |",
    "| 0.5 | key | 1.25 | 0.1 |",
    "| 0.25 | a\\|b_c | 12.5 | 10% |",
  ]);
  const latex = formatLatex({ ...table, columns: ["ratio", "^ ~ \\", "{loss}", "KL"] });
  assertEquals(latex.split("\n"), [
    "\\begin{tabular}{rlrr}",
    "\\toprule",
    "ratio & \\textasciicircum{} \\textasciitilde{} \\textbackslash{} & \\{loss\\} & KL \\\\",
    "\\midrule",
    "0.5 & key & 1.25 & 0.1 \\\\",
    "0.25 & a|b\\_c & 12.5 & 10\\% \\\\",
    "\\bottomrule",
    "\\end{tabular}",
  ]);
});

Deno.test("formatLatex() sets what is best in bold, and signs as mathematics", () => {
  const rows = [["**52.0% ±3.5**", "-0.05 [-0.1, 0.2]"], ["x-y", "<0.01"]];
  assertEquals(formatLatex({ columns: ["a", "b"], left: [true, false], rows }).split("\n").slice(4, 6), [
    "\\textbf{52.0\\% $\\pm$3.5} & $-$0.05 [$-$0.1, 0.2] \\\\",
    "x-y & $<$0.01 \\\\",
  ]);
});

const parse = (args: readonly string[]) =>
  parseArguments({ name: "show", usage: "[flags]", flags: TABLE }, args).values;
const read = (...args: string[]) => readTable(parse(args), ["rule", "KV cache"]);

Deno.test("readTable() takes columns by name, and refuses what contradicts itself", () => {
  assertEquals(read(), { columns: undefined, format: "text", csv: undefined });
  assertEquals(read("--columns", "kv-cache, RULE,rule", "--latex"), {
    columns: ["KV cache", "rule"],
    format: "latex",
    csv: undefined,
  });
  assertEquals(read("--columns", "all", "--json").columns, ["rule", "KV cache"]);
  const cases: [string[], string][] = [
    [["--columns", "magic"], "Cannot use --columns magic: expected all, or some of rule, kv-cache"],
    [["--json", "--markdown"], "Cannot use --json with --markdown: expected one of them"],
    [["--latex", "--markdown"], "Cannot use --markdown with --latex: expected one of them"],
    [["--csv", "/nowhere/a.csv"], 'Cannot write "/nowhere/a.csv"'],
  ];
  for (const [args, expected] of cases) assertThrows(() => read(...args), UsageError, expected);
});

/** The output on a terminal of a number of columns; undefined = into a pipe. */
async function print(columns: number | undefined, shown: typeof table, args: string[], spare: string[] = []) {
  const { consoleSize } = Deno;
  let text = "";
  const stream = {
    isTerminal: () => columns !== undefined,
    writeSync: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes), bytes.length),
  };
  Deno.consoleSize = () => ({ columns: columns!, rows: 40 });
  try {
    const request = readTable(parse(args), shown.columns);
    await printTable(
      shown,
      request,
      { spare, json: () => "{}", records: [{ a: 1 }], notes: ["Report: x"] },
      stream as typeof Deno.stdout,
    );
  } finally {
    Deno.consoleSize = consoleSize;
  }
  return text;
}

Deno.test("printTable() fits the terminal, says what it leaves out, and explains what it shows", async () => {
  const piped = await print(undefined, table, [], ["KL"]);
  assertEquals(
    piped,
    `${formatTable(table)}\n\nratio: the ratio\nrule: the rule\nloss: nats\nKL: divergence\nReport: x\n`,
  );
  const narrow = await print(22, table, [], ["KL"]);
  assertEquals(narrow.split("\n")[0], "ratio  rule   loss");
  assertEquals(
    narrow.split("\n\n")[1],
    [
      "ratio: the ratio",
      "rule: the rule",
      "loss: nats",
      "Left out at 22",
      "columns: KL (--columns",
      "all, --csv FILE).",
      "Report: x\n",
    ].join("\n"),
  );
  const chosen = await print(22, table, ["--columns", "rule,KL"], ["KL"]);
  assertEquals(chosen.split("\n")[0], "rule    KL");
  assert(!chosen.includes("Left out"));
  assertEquals(await print(22, table, ["--json"]), "{}\n");
  assertEquals(
    await print(5, table, ["--markdown", "--columns", "KL"]),
    "| KL |\n| ---: |\n| 0.1 |\n| 10% |\n",
  );
  assertStringIncludes(await print(22, table, ["--latex"]), "\\begin{tabular}");
  const path = await Deno.makeTempFile();
  await print(80, table, ["--csv", path, "--json"]);
  assertEquals(await Deno.readTextFile(path), "a\n1\n");
  await Deno.remove(path);
});

Deno.test("the tables of a full sweep and a comparison fit 80 and 120 columns", async () => {
  const trials = expandGrids(FULL_GRID).map((options) =>
    makeTrial({ ...options, preset: undefined } as never, 0.5, 1234.5)
  );
  const summary = makeSummary(trials);
  const interval = { estimate: -12.3456, low: -12.3456, high: 12.3456 };
  const methods = ["dense", "variance inverted", "random-protected for paper"].map((name) => ({
    retained: { queries: 1, pairs: 1, attentionFlops: 1, cache: 1, projectionFlops: 1, parameters: 1 },
    ...{
      name,
      options: null,
      labels: null,
      seeds: 5,
      achievedRatio: 0.5,
      kvAchievedRatio: 0.5,
      nonCausal: true,
      loss: 12.3456,
      seedLosses: [1, 2] as const,
      lossBlocks: { sums: [1.5], sizes: [1] },
    },
    ...{
      perplexity: 1234.5,
      lossIncrease: interval,
      toRandom: interval,
      toProtected: interval,
      missed: false,
      closed: { estimate: -1.234, low: -1.234, high: 1.234 },
    },
  }));
  const tables = [
    [tabulateTrials(summary), SPARE_IN_SWEEP],
    [tabulateComparison({ methods, environment: {} }), SPARE_IN_COMPARE],
  ] as const;
  for (const width of [80, 120]) {
    for (const [wide, spare] of tables) {
      const text = await print(width, wide as unknown as typeof table, [], [...spare]);
      const lines = text.split("\n");
      assert(lines.every((line) => line.length <= width), lines.find((line) => line.length > width));
      assertEquals(text.split("\n\n").length, 2, "a table in parts");
    }
  }
  assertEquals(tabulateTrials(summary).rows.length, 82);
  // A preset's name stands for the options that it sets: options that differ between presets get no columns.
  assertEquals(tabulateTrials(summary).columns.slice(0, 4), ["ratio", "rule", "seed", "Q skipped"]);
  const kept = {
    80: ["ratio", "rule", "Q skipped", "ppl", "loss increase", "attn FLOPs"],
    120: ["95%", "KV cache"],
  };
  for (const [width, names] of Object.entries(kept)) {
    const text = await print(Number(width), tabulateTrials(summary) as typeof table, [], [...SPARE_IN_SWEEP]);
    for (const name of names) {
      assert(text.split("\n")[0]!.includes(name), `${name} is left out at ${width} columns`);
    }
  }
});
