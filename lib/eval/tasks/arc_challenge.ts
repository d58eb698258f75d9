/** ARC-challenge: the science questions that retrieval and co-occurrence answer wrong. */
import type { ItemTask } from "../item_task.ts";
import { arcEasy } from "./arc_easy.ts";

/** ARC-challenge, asked as ARC-easy is. */
export const arcChallenge: ItemTask = {
  ...arcEasy,
  name: "arc_challenge",
  help: "ARC-challenge: science questions that retrieval gets wrong",
  file: "arc_challenge.jsonl",
  hub: { ...arcEasy.hub, files: ["ARC-Challenge/test-00000-of-00001.parquet"] },
};
