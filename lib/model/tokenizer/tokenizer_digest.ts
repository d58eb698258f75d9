/** A digest of what a tokenizer does: results of unlike ones are of other tokens. */
import { sha256 } from "../../sha256.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Letters, digits, spaces, scripts and signs: how they come apart tells merges and rules from each other. */
const PROBE =
  "The quick brown fox's 12,345 jumps — over\n\n  the lazy dog! don't; naïve café, Ελλάδα, Москва, 東京, 🦊 x_1 += (a/b)\t";

/**
 * SHA-256 of every token's bytes, of the ids that are special, and of the ids of a fixed text.
 *
 * @returns Lower-case hex.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const { tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * console.assert((await digestTokenizer(tokenizer)).length === 64);
 * ```
 */
export async function digestTokenizer(
  tokenizer: Pick<Tokenizer, "vocabSize" | "bytes" | "encode" | "bosId" | "addsBos" | "endIds">,
): Promise<string> {
  const known = digests.get(tokenizer) ?? await computeDigest(tokenizer);
  digests.set(tokenizer, known);
  return known;
}

type Digested = Parameters<typeof digestTokenizer>[0];

/** A tokenizer does not change, and looking at all its tokens takes a while. */
const digests = new WeakMap<Digested, string>();

async function computeDigest(tokenizer: Digested): Promise<string> {
  const { vocabSize, bosId, addsBos, endIds } = tokenizer;
  const tokens = Array.from({ length: vocabSize }, (_, id) => tokenizer.bytes(id).toHex());
  const ends = [...endIds].sort((a, b) => a - b);
  return await sha256(JSON.stringify([tokens, bosId ?? null, addsBos, ends, [...tokenizer.encode(PROBE)]]));
}
