/** Flags of `deno task reproduce`, which its study keeps for workers. */
import type { Declaration } from "../cli/command.ts";
import { COMPARED } from "../compare/flags.ts";
import { integer, onOff, pick, text, under } from "../cli/flags/flag.ts";
import { MEMORY, MODEL, QUEUE, QUIET, STUDY, TABLE, TEXT } from "../cli/flags/flags.ts";
import { ITEMS } from "../cli/flags/items.ts";
import cards from "./cards.json" with { type: "json" };

/** The parts of the command's declaration by which its arguments are read. */
export const ARGUMENTS = {
  name: "reproduce",
  usage: "RECIPE [flags]",
  words: { least: 0, most: 1, flag: "recipe" },
  flags: {
    ...under("What runs", {
      recipe: text("NAME|FILE.json|FILE.zip", "the recipe, or a bundle; or as the first word (quick)"),
      plan: onOff("only print what would be fetched and run, with memory and time"),
      gflops: text(
        "N|CARD",
        `plan for a speed instead of timing this machine: GFLOP/s, or a card of ${
          Object.keys(cards).join(", ")
        }`,
      ),
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
    ...pick(STUDY, "out", "resume"),
    ...TABLE,
    ...QUIET,
  },
} satisfies Partial<Declaration>;
