/** Flags of comparisons: the methods that run, their ratios, and their budget. */
import { COMPARED_METHODS, OTHER_METHODS } from "../../../lib/sweep/compare/compared_methods.ts";
import { type Flags, integer, text, under } from "../cli/flags/flag.ts";

/** Those that a recipe sets too. */
export const COMPARED = {
  ...under("What runs", {
    methods: text(
      "A,B,…",
      `some of ${COMPARED_METHODS.join(", ")} (all). Others: ${OTHER_METHODS.join(", ")}`,
    ),
  }),
  ...under("Method", {
    ratios: text(
      "R,S,…",
      "compare at several ratios of queries, or of keys and values, instead of --prune-ratio and --kv-ratio",
    ),
  }),
  seeds: integer("seeds of random (5)"),
} satisfies Flags;

export const MATCH = under("Method", {
  match: text(
    "cache|pairs|flops|none",
    "budget that is equal for all methods; none: each runs at the requested ratio (cache for methods that only evict, " +
      "pairs for those that skip queries)",
  ),
}) satisfies Flags;
