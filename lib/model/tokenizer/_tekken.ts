/** A tekken.json, the file of Mistral's own tokenizers: byte pairs by their rank, and special tokens before them. */
import { ModelFormatError } from "../../errors.ts";
import { parseObject } from "../formats/_keyed_file.ts";
import { BYTE_CHARACTERS, BYTE_LEVEL, isolate } from "./_byte_level.ts";

/** Special tokens of files that do not list any (versions 3 and earlier), by rank. */
const FIRST_SPECIAL = [
  ...[
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
  ],
  ...["[/TOOL_RESULTS]", "[TOOL_CALLS]", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"],
].map((token_str, rank) => ({ rank, token_str }));

type Json = { readonly [key: string]: unknown };
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && value as number > 0;

/**
 * The same tokenizer as a tokenizer.json. The id of a piece is its rank after the special tokens. Each way to make it
 * of two pieces is a merge, in the order of ranks.
 *
 * @throws {ModelFormatError} If it is no such file; the message names the key.
 */
export function tekkenAsHf(file: string, text: string): string {
  const fail = (key: string, found: unknown, expected: string) =>
    new ModelFormatError(
      file,
      `"${key}": found ${JSON.stringify(found)?.slice(0, 100)}, expected ${expected}`,
    );
  const json = parseObject(file, text, "a tokenizer"), config = (json["config"] ?? {}) as Json;
  const { pattern, default_vocab_size: size, default_num_special_tokens: specials } = config;
  if (typeof pattern !== "string") throw fail("config.pattern", pattern, "a regular expression");
  if (!isCount(specials)) throw fail("config.default_num_special_tokens", specials, "a number of tokens");
  if (!isCount(size) || size <= specials) {
    throw fail("config.default_vocab_size", size, "more than special tokens");
  }
  if (!Array.isArray(json["vocab"]) || json["vocab"].length < size - specials) {
    throw fail(
      "vocab",
      (json["vocab"] as unknown[] | undefined)?.length,
      `a list of at least ${size - specials} pieces`,
    );
  }
  // Pieces past the size are for larger models.
  const ranks = new Map<string, number>();
  json["vocab"].slice(0, size - specials).forEach((entry: Json | null, rank) => {
    const piece = readPiece(entry?.["token_bytes"]);
    if (piece === undefined || entry?.["rank"] !== rank || ranks.has(piece)) {
      throw fail(`vocab[${rank}]`, entry, "a piece of its own in base64, in the order of ranks");
    }
    ranks.set(piece, rank);
  });
  const merges = [...ranks].filter(([piece]) => piece.length > 1).flatMap(([piece]) =>
    Array.from({ length: piece.length - 1 }, (_, i) => [piece.slice(0, i + 1), piece.slice(i + 1)] as const)
      .filter(([left, right]) => ranks.has(left) && ranks.has(right))
      .sort(([a], [b]) => ranks.get(a)! - ranks.get(b)!)
  );
  const added = json["special_tokens"] ?? FIRST_SPECIAL;
  const isSpecial = (token: Json | null) =>
    typeof token?.["token_str"] === "string" && Number.isSafeInteger(token["rank"]) &&
    token["rank"] as number >= 0 &&
    token["rank"] as number < specials;
  if (!Array.isArray(added) || !added.every(isSpecial)) {
    throw fail("special_tokens", added, `a list of tokens of ranks below ${specials}`);
  }
  const bos = added.find((token: Json) => token["token_str"] === "<s>");
  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [bos?.rank], tokens: ["<s>"] } },
  };
  return JSON.stringify({
    added_tokens: added.map(({ rank, token_str }) => ({
      ...{ id: rank, content: token_str, special: true },
      ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
    })),
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [isolate(pattern), BYTE_LEVEL] },
    post_processor: bos === undefined ? null : template,
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(Array.from(ranks, ([piece, rank]) => [piece, specials + rank])),
      merges,
      ignore_merges: true,
    },
  });
}

/** The bytes of a piece, each as its character in byte-level vocabularies. */
function readPiece(base64: unknown): string | undefined {
  if (typeof base64 !== "string") return undefined;
  try {
    const bytes = atob(base64);
    return bytes === ""
      ? undefined
      : Array.from(bytes, (byte) => BYTE_CHARACTERS[byte.charCodeAt(0)]).join("");
  } catch {
    return undefined;
  }
}
