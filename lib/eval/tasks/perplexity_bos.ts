/** Perplexity of disjoint chunks that each begin with BOS, also where the tokenizer adds none. */
import { cutChunks } from "../chunks/chunks.ts";
import type { Task } from "../task.ts";
import { perplexity, type PerplexityTypes, scoreBehind, scoreChunks } from "./perplexity.ts";

export const perplexityBos: Task<PerplexityTypes> = {
  ...perplexity,
  name: "perplexity_bos",
  help: "perplexity of chunks that each begin with BOS",
  protocol:
    "Disjoint chunks of BOS and of context - 1 tokens of the text, the tail dropped, each a sequence of its own, one prefill; every " +
    "token of the text is scored; perplexity = exp of the mean of the chunks' mean losses, softmax over float32 logits; KL and " +
    "top-1 on the same positions.",
  label: (context) => `BOS in every chunk of ${context}`,
  open(model, { ids, context, tokenizer: { bosId, addsBos }, cacheBytes }) {
    if (bosId === undefined) {
      throw new RangeError("Cannot begin chunks with BOS: the tokenizer has none; use --task perplexity");
    }
    if (context < 3) throw new RangeError(`Cannot use chunks of ${context} tokens: expected at least 3`);
    const chunks = cutChunks(addsBos ? ids.subarray(1) : ids, context - 1)
      .map((chunk) => Int32Array.of(bosId, ...chunk));
    return scoreChunks(model, chunks, scoreBehind(() => 0), cacheBytes);
  },
};
