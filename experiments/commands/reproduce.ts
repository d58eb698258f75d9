/**
 * `deno task reproduce`: the tables of a recipe on a model, next to published numbers of the same protocols.
 *
 * A recipe is data (`reproduce/recipes/`); its parts are comparisons of one study. See `deno task reproduce --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { plural } from "../../lib/plural.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { PAPER_LEGEND } from "../../lib/plot/reports/paper_table.ts";
import {
  describeReproduction,
  listRows,
  renderReproduction,
  type Reproduction,
  tabulateReproduction,
} from "../../lib/plot/reports/reproduction.ts";
import { neededPermissions, readJobs, threadsOf } from "./cli/run/jobs.ts";
import { expectStudy, keepFlags } from "./cli/run/study_store.ts";
import { openBackend, readBackend } from "./cli/machine/backend.ts";
import { textOf } from "./cli/flags/parse.ts";
import { withFiles } from "./cli/flags/rule.ts";
import { writeCard } from "./cli/output/model_card.ts";
import { type Command, RUNS_MODEL } from "./cli/command.ts";
import { explainError, runCommand } from "./cli/task.ts";
import { loadConnection, loadSubmit, readQueue } from "./queue/load.ts";
import { type Asked, singleCommand } from "./run.ts";
import { studyCommand } from "./run_study.ts";
import { describeEstimate, estimateRecipe, tabulateEstimate } from "./reproduce/estimate.ts";
import { ARGUMENTS } from "./reproduce/flags.ts";
import { planParts } from "./reproduce/parts.ts";
import { choosePublished, readRecipe, RECIPES } from "./reproduce/recipe.ts";
import { countFinished, runRecipe } from "./reproduce/work.ts";

const DECLARATION = {
  ...ARGUMENTS,
  summary: "Runs a recipe: perplexity and tasks, each by a named protocol, with all its methods and ratios.",
  about: `Writes study.db, reproduce.json, report.html and tables.md to --out. Published numbers stand next to
the results where protocol and data are the same, and in tables of their own elsewhere. The model without a
filter comes first: over 1% from the published number of the same protocol ends the run. --plan only prints
what would be fetched and run, with memory and time. Ctrl-C keeps finished work; --resume continues.

Recipes: quick (tiny, built-in text and made items, a minute), study (small models), paper (7 to 13 billion
parameters, a GPU), or a .json file of the same form. A bundle (FILE.zip) is a finished run to be repeated:
its numbers are compared, and the exit code is 1 where one differs. Only the model's flags, --data, --out and
--resume apply to it. Its rules and tasks are code, which runs with this command's rights.`,
  examples: [
    "quick",
    "paper --model meta-llama/Llama-2-7b-hf --backend cuda --cache-dtype bf16 --plan",
    "study --data DIR --jobs 2 --out results/study",
    "run.zip --out results/again",
  ],
  permissions: `${RUNS_MODEL},hostname`,
  prepare: withFiles,
};

async function readFlags({ values }: Asked) {
  if (values.has("gflops") && !values.has("plan")) {
    throw new UsageError("Cannot use --gflops without --plan: a run takes the time that it takes");
  }
  const request = readBackend(values), recipe = await readRecipe(textOf(values, "recipe") ?? RECIPES[0]);
  return { request, recipe, jobs: readJobs(values) ?? 1, address: await readQueue(values) };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan({ request, recipe, jobs, address }: Flags, asked: Asked) {
  const { values, named, held } = asked, threads = request.threads ?? threadsOf(jobs);
  const planned = await planParts(recipe, { ...asked, request: { ...request, threads } });
  const { parts, conditions, backend, file } = planned;
  expectStudy(named)(conditions);
  const model = await choosePublished(recipe, textOf(values, "published"), file.config);
  const runs = parts.reduce((sum, { methods }) => sum + 1 + methods.length, 0);
  const line =
    `Recipe ${recipe.name}: ${plural(runs, "run")} in ${plural(parts.length, "part")} on ${file.name}; ` +
    backend.description;
  // An unreachable queue leaves no folder.
  const connections = address && held.use(await (await loadConnection()).Connections.open(address));
  return { recipe, jobs, threads, parts, conditions, model, line, connections };
}

const run = studyCommand<Flags, Awaited<ReturnType<typeof plan>>, Reproduction>({
  ...DECLARATION,
  file: "reproduce.json",
  needs: (plan) => neededPermissions(plan),
  read: readFlags,
  columns: () => [],
  plan,
  async work(plan, { store, values, interrupt, progress, memory }) {
    const own = keepFlags(values, ["recipe", "methods", "ratios", "seeds"]);
    store.set("flags", { ...store.flags, ...own }); // by which workers plan the same recipe
    const { connections } = plan, { signal } = interrupt, queue = connections && await loadSubmit();
    return await runRecipe(store, {
      ...{ ...plan, signal, progress },
      ...(queue && {
        submit: (source, kind) => queue.submitTrials(store, source, kind, connections!, progress, signal),
      }),
      peakBytes: () => memory.peakBytes,
    });
  },
  kept: (store) => {
    const parts = Object.keys(store.conditions.options ?? {});
    return { finished: countFinished(store, parts), noun: "chunk" };
  },
  json: (reproduction) => JSON.stringify(reproduction, null, 2),
  pages: async (reproduction) => ({
    "report.html": renderReproduction(reproduction, { plotly: await readPlotly() }),
    "tables.md": writeCard(reproduction),
  }),
  table: (reproduction) => ({
    table: tabulateReproduction(reproduction),
    records: listRows(reproduction),
    verdict: describeReproduction(reproduction),
    notes: PAPER_LEGEND,
  }),
});

const planned = singleCommand({
  ...DECLARATION,
  read: readFlags,
  columns: () => tabulateEstimate({ parts: [] }).columns,
  plan: ({ request, recipe }: Flags, asked: Asked) =>
    estimateRecipe(recipe, asked, async () => {
      try {
        return await openBackend(request, asked.progress);
      } catch (error) {
        const line = explainError(error);
        if (request.choice !== "cuda" || line === undefined) throw error;
        throw new UsageError(`${line} (a plan needs no GPU: add --gflops, as in --gflops h100)`);
      }
    }),
  work: (estimate) => estimate,
  file: "plan.json",
  json: (estimate) => JSON.stringify(estimate, null, 2),
  table: (estimate) => ({
    table: tabulateEstimate(estimate),
    records: estimate.parts,
    notes: describeEstimate(estimate),
  }),
});

/** Runs a recipe, or only plans it; or repeats a bundle. */
export const command: Command = {
  ...run,
  async main(args) {
    if (!args.some((arg) => arg.endsWith(".zip"))) {
      return await (args.includes("--plan") ? planned : run).main(args);
    }
    return await (await import("./bundle/repeat.ts")).repetition.main(args);
  },
};

if (import.meta.main) await runCommand(command);
