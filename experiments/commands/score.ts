/**
 * `deno task score`: the loss of every token of one sequence, with or without the filter.
 *
 * Made for comparisons with other engines: ids in, losses and masks out. See `deno task score --help`.
 */
import { RUNS_MODEL } from "./cli/command.ts";
import { integer, pick, rarely, text, under } from "./cli/flags/flag.ts";
import { BUDGET } from "./cli/flags/budget.ts";
import { DECISIONS } from "./cli/flags/decisions.ts";
import { RUN, TABLE, TEXT } from "./cli/flags/flags.ts";
import { METHOD } from "./cli/flags/method_flags.ts";
import { withRule } from "./cli/flags/rule.ts";
import { runCommand } from "./cli/task.ts";
import { singleCommand } from "./run.ts";
import { describeOutcome, SCORE_COLUMNS, tabulateScores } from "./score/outcome.ts";
import type { Plan } from "./score/run.ts";
import { readFlags } from "./score/flags.ts";

export const command = singleCommand({
  name: "score",
  summary: "Prints the loss of every token of one sequence, and its perplexity.",
  usage: "--text FILE | --ids FILE.json | --replay FILE [flags]",
  about: `Without a flag of the method the full model runs. With one both models run, and the end shows how
much was skipped, the loss increase and the savings; --out keeps a page of the text with the tokens that were
skipped. The sequence is not cut: --context has no effect here. --trace and --decisions keep the decisions.
--replay repeats those of an earlier run, also of compare: with the same backend it gives the same losses.`,
  examples: [
    "--text FILE",
    "--text FILE --method learned --out results/score",
    "--ids FILE.json --preset paper --phase decode --json",
  ],
  flags: {
    ...under("What runs", {
      text: text("FILE", "text to score"),
      ids: text("FILE.json", "token ids as they are, instead of --text"),
      replay: text(
        "FILE.parquet|FILE.json",
        "take the decisions of a file of --trace or --decisions again, on its tokens, instead of a method",
      ),
      "replay-method": text("NAME", "the method to replay, of a file with several"),
    }),
    ...pick(TEXT, "tokens"),
    ...rarely({ context: { ...TEXT.context, help: "has no effect: the sequence is not cut" } }),
    ...RUN,
    ...METHOD,
    ...BUDGET,
    phase: text(
      "prefill|decode",
      "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
    ),
    ...rarely({ chunk: integer("tokens per piece of a prefill (all at once)") }),
    ...under("Results", {
      out: text("DIR", "folder for results (none)"),
      trace: text("FILE.parquet", "keep every decision, to be replayed"),
    }),
    ...DECISIONS,
    ...TABLE,
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  read: readFlags,
  columns: () => SCORE_COLUMNS,
  plan: async (flags, asked): Promise<Plan> => await (await import("./score/run.ts")).plan(flags, asked),
  work: async (plan, asked) => await (await import("./score/run.ts")).work(plan, asked),
  file: "score.json",
  json: ({ record }) => JSON.stringify(record),
  async pages({ scored, isFiltered }, { method, record: recorded }): Promise<Record<string, string>> {
    if (!isFiltered) return {};
    const { renderScorePage } = await import("./score/page.ts");
    return { "score.html": renderScorePage(scored, method, recorded.layers()) };
  },
  table: ({ scored }, { method }) => ({ ...tabulateScores(scored), notes: describeOutcome(scored, method) }),
});

if (import.meta.main) await runCommand(command);
