/** Flags of `deno task reproduce`, which its study keeps for workers. */
import type { Declaration } from "../cli/command.ts";
import { COMPARED } from "../compare/flags.ts";
import { integer, onOff, pick, text, under } from "../cli/flags/flag.ts";
import { MEMORY, MODEL, QUEUE, QUIET, STUDY, TABLE, TEXT } from "../cli/flags/flags.ts";
import { ITEMS } from "../cli/flags/items.ts";

/** The parts of the command's declaration by which its arguments are read. */
export const ARGUMENTS = {
  name: "reproduce",
  usage: "RECIPE [flags]",
  words: { least: 0, most: 1, flag: "recipe" },
  flags: {
    ...under("What runs", {
      recipe: text("NAME|FILE.json", "the recipe; or as the first word (quick)"),
      plan: onOff("only print what would be fetched and run, with memory and time"),
      published: text(
        "NAME|none",
        "the model whose published numbers stand next to the results and are checked (that of the model's sizes)",
      ),
    }),
    ...pick(ITEMS, "data", "items"),
    ...pick(TEXT, "tokens"),
    ...COMPARED,
    ...MODEL,
    ...MEMORY,
    jobs: integer("processes for the parts (1)"),
    ...QUEUE,
    ...STUDY,
    ...TABLE,
    ...QUIET,
  },
} satisfies Partial<Declaration>;
