/** ARC-challenge: the science questions that retrieval and co-occurrence answer wrong. */
import type { ItemTask } from "../item_task.ts";
import { defineArc } from "./arc_easy.ts";

export const arcChallenge: ItemTask = defineArc(
  "arc_challenge",
  "ARC-challenge: science questions that retrieval gets wrong",
  "ARC-Challenge/test-00000-of-00001.parquet",
);
