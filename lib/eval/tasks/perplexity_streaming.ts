/** Perplexity of a text as one stream: a single cache, never reset, as StreamingLLM measures it. */
import { cutChunks } from "../chunks/chunks.ts";
import type { Task } from "../task.ts";
import { perplexity, type PerplexityTypes, scoreBehind, scoreChunks } from "./perplexity.ts";

export const perplexityStreaming: Task<PerplexityTypes> = {
  ...perplexity,
  name: "perplexity_streaming",
  help: "perplexity of the whole text (--tokens) through one cache, never reset",
  protocol:
    "One token stream with one BOS at its start where the tokenizer adds one, all of it one sequence through one cache, fed as a " +
    "prefill, which decides and computes as token by token; perplexity = exp of the mean loss of every token but the first, " +
    "softmax over float32 logits; KL and top-1 on the same positions.",
  label: (context) => `streaming over ${context}`,
  isWhole: true,
  open: (model, { ids, cacheBytes }) =>
    scoreChunks(model, cutChunks(ids, Math.max(ids.length, 2)), scoreBehind(() => 0), cacheBytes),
};
