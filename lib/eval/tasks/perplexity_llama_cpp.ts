/**
 * Perplexity as llama.cpp's `perplexity` tool computes it: only the second half of each chunk is scored, and each chunk
 * begins with BOS where the tokenizer adds one.
 */
import { cutChunks } from "../chunks/chunks.ts";
import type { Task } from "../task.ts";
import { perplexity, type PerplexityTypes, scoreBehind, scoreChunks } from "./perplexity.ts";

export const perplexityLlamaCpp: Task<PerplexityTypes> = {
  ...perplexity,
  name: "perplexity_llama_cpp",
  help: "perplexity as in llama.cpp: over the second half of each chunk",
  protocol:
    "Disjoint chunks of the context length, the tail dropped, the first token of each replaced by BOS where the tokenizer adds " +
    "one, each a sequence of its own, one prefill; the tokens behind the one in the middle are scored; perplexity = exp of the " +
    "mean of all their losses, softmax over float32 logits; KL and top-1 on the same positions.",
  label: (context) => `llama.cpp at ${context}`,
  open(model, { ids, context, tokenizer, cacheBytes }) {
    if (context % 2 !== 0 || context < 4) {
      const expected = "expected an even number of at least 4";
      throw new RangeError(`Cannot cut chunks of ${context} tokens in halves: ${expected}`);
    }
    if (ids.length < 2 * context) {
      throw new RangeError(
        `Cannot evaluate a text of ${ids.length} tokens as llama.cpp does: expected at least two contexts of ${context} tokens`,
      );
    }
    const chunks = cutChunks(ids, context);
    if (tokenizer.addsBos) { for (const chunk of chunks) chunk[0] = tokenizer.bosId!; }
    return scoreChunks(model, chunks, scoreBehind(() => context / 2), cacheBytes);
  },
};
