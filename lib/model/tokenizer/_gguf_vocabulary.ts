/** A tokenizer's parts out of a GGUF file's metadata. */
import { bytesOfPiece, createByteLevelBpe, PRE_TOKENIZERS } from "./_byte_level.ts";
import { bytesOf, encodeSentencePiece } from "./_sentencepiece.ts";
import {
  createVocabulary,
  END_TEXT,
  type Scheme,
  SPACE,
  type TokenizerParts,
  type Vocabulary,
} from "./_vocabulary.ts";
import type { GgufFile } from "../formats/gguf.ts";

/** How a conversation becomes a text. */
const CHAT_TEMPLATE = "tokenizer.chat_template";

/** Keys of the tokens that end a text, a turn or a message. */
const END_KEYS = ["eos_token_id", "eot_token_id", "eom_token_id"];

const PREFIX = "tokenizer.ggml.";
const READ_KEY =
  /^tokenizer\.ggml\.(model|pre|tokens|scores|token_type|merges|add_bos_token|add_space_prefix|(bos|eos|eot|eom)_token_id)$/;

/** Keys that do not touch how plain text becomes ids. */
const INFORMATIVE_KEY =
  /^tokenizer\.ggml\.((unknown|padding|separator|seperator|cls|mask|prefix|suffix|middle|fim_[a-z]+)_token_id(s)?|token_type_count)$/;

/** Keys that would change the ids, and the one value of each that changes nothing. */
const NEUTRAL_VALUES: { readonly [key: string]: boolean } = {
  "tokenizer.ggml.add_eos_token": false,
  "tokenizer.ggml.add_sep_token": false,
  "tokenizer.ggml.remove_extra_whitespaces": false,
};

/**
 * Reads the vocabulary, and how it is applied; throws as `Tokenizer.fromGguf`.
 *
 * @throws {ModelFormatError} If it is missing or of an unknown kind.
 */
export function readGgufVocabulary(gguf: GgufFile): TokenizerParts {
  expectKnownKeys(gguf);
  const model = gguf.string(PREFIX + "model");
  if (model !== "llama" && model !== "gpt2") {
    throw gguf.error(PREFIX + "model", `found "${model}", expected "llama" or "gpt2"`);
  }
  const vocabulary = readVocabulary(gguf);
  const scheme = model === "llama" ? sentencePiece(gguf, vocabulary) : byteLevel(gguf, vocabulary);
  const bosId = readId(gguf, "bos_token_id", vocabulary.pieces.length);
  // Without the key llama.cpp uses true for SentencePiece, and the family's default for byte-level BPE.
  const usual = model === "llama" || PRE_TOKENIZERS[gguf.string(PREFIX + "pre")]!.addsBos === true;
  const addsBos = gguf.boolean(PREFIX + "add_bos_token", usual);
  if (addsBos && bosId === undefined) {
    throw gguf.error(
      PREFIX + "bos_token_id",
      "found no such key, expected the id that add_bos_token asks for",
    );
  }
  const eosId = readId(gguf, "eos_token_id", vocabulary.pieces.length), endIds = findEnds(gguf, vocabulary);
  const chatTemplate = gguf.has(CHAT_TEMPLATE) ? gguf.string(CHAT_TEMPLATE) : undefined;
  return { vocabulary, scheme, bosId, addsBos, eosId, endIds, chatTemplate };
}

function expectKnownKeys(gguf: GgufFile): void {
  for (const [key, { value }] of gguf.metadata) {
    if (!key.startsWith(PREFIX) || READ_KEY.test(key) || INFORMATIVE_KEY.test(key)) continue;
    if (!Object.hasOwn(NEUTRAL_VALUES, key)) {
      throw gguf.error(key, "found a key that this project does not support, so token ids could be wrong");
    }
    if (value !== NEUTRAL_VALUES[key]) {
      throw gguf.error(key, `found ${String(value)}, expected ${NEUTRAL_VALUES[key]} or no such key`);
    }
  }
}

function readVocabulary(gguf: GgufFile): Vocabulary {
  const pieces = gguf.strings(PREFIX + "tokens");
  const types = gguf.numbers(PREFIX + "token_type");
  expectLength(gguf, "token_type", types.length, pieces.length);
  return createVocabulary(pieces, types, (key, says) => gguf.error(PREFIX + key, says));
}

function expectLength(gguf: GgufFile, key: string, found: number, expected: number): void {
  if (found !== expected) {
    throw gguf.error(PREFIX + key, `found ${found} entries, expected one for each of the ${expected} tokens`);
  }
}

function readId(gguf: GgufFile, name: string, vocabSize: number): number | undefined {
  const key = PREFIX + name;
  if (!gguf.has(key)) return undefined;
  const id = gguf.integer(key);
  if (id < 0 || id >= vocabSize) {
    throw gguf.error(key, `found ${id}, expected an id from 0 to ${vocabSize - 1}`);
  }
  return id;
}

/** Tokens that end a text: those that the file names, and, as in llama.cpp, those that are written like one. */
function findEnds(gguf: GgufFile, { pieces }: Vocabulary): ReadonlySet<number> {
  const named = END_KEYS.flatMap((key) => readId(gguf, key, pieces.length) ?? []);
  return new Set([...named, ...pieces.flatMap((piece, id) => END_TEXT.test(piece) ? [id] : [])]);
}

/** How llama.cpp applies a vocabulary of SentencePiece. */
function sentencePiece(gguf: GgufFile, vocabulary: Vocabulary): Scheme {
  const pre = gguf.string(PREFIX + "pre", "default");
  if (pre !== "default") {
    throw gguf.error(PREFIX + "pre", `found "${pre}", expected "default" for this vocabulary`);
  }
  const addsSpace = gguf.boolean(PREFIX + "add_space_prefix", true);
  const scores = gguf.numbers(PREFIX + "scores");
  expectLength(gguf, "scores", scores.length, vocabulary.pieces.length);
  const bytes = bytesOf(vocabulary, (says) => gguf.error(PREFIX + "tokens", says));
  return {
    addsSpace,
    encode(text, _after, ids) {
      const whole = ((addsSpace ? " " : "") + text).replaceAll(" ", SPACE);
      encodeSentencePiece(whole, vocabulary.idOf, scores, bytes.spell, ids);
    },
    bytes: bytes.of,
  };
}

function byteLevel(gguf: GgufFile, { pieces, idOf }: Vocabulary): Scheme {
  const pre = gguf.string(PREFIX + "pre");
  if (!Object.hasOwn(PRE_TOKENIZERS, pre)) {
    const known = Object.keys(PRE_TOKENIZERS).map((name) => `"${name}"`).join(", ");
    throw gguf.error(PREFIX + "pre", `found "${pre}", expected one of ${known}`);
  }
  if (gguf.boolean(PREFIX + "add_space_prefix", false)) {
    throw gguf.error(PREFIX + "add_space_prefix", "found true, expected false for this vocabulary");
  }
  const build = () => createByteLevelBpe(idOf, readMerges(gguf), PRE_TOKENIZERS[pre]!);
  let encode: ReturnType<typeof build> | undefined = build();
  return {
    addsSpace: false,
    encode(text, _after, ids) {
      for (const id of (encode ??= build())(text)) ids.push(id);
    },
    rest() {
      encode = undefined;
    },
    bytes: (id) => bytesOfPiece(pieces[id]!),
  };
}

function readMerges(gguf: GgufFile): [string, string][] {
  const key = PREFIX + "merges";
  const merges = new Map<string, [string, string]>();
  for (const merge of gguf.strings(key)) {
    const space = merge.indexOf(" ", 1);
    if (space < 1 || space === merge.length - 1) {
      throw gguf.error(key, `found ${JSON.stringify(merge)}, expected two pieces with a space between`);
    }
    // Only the first of repeated merges counts, as in llama.cpp.
    if (!merges.has(merge)) merges.set(merge, [merge.slice(0, space), merge.slice(space + 1)]);
  }
  return [...merges.values()];
}
