/** Text to token ids and back, from a GGUF file's own vocabulary, id for id as llama.cpp does it. */
import { expectTypeOf } from "../errors.ts";
import { BYTE_CHARACTERS, createByteLevelBpe, PRE_TOKENIZERS } from "./_byte_level.ts";
import { readHfVocabulary } from "./_hf_tokenizer.ts";
import { encodeSentencePiece } from "./_sentencepiece.ts";
import type { GgufFile } from "./formats/gguf.ts";

/** Token types in GGUF. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Keys that are read, each with the kinds of vocabulary in which it may stand. */
const PREFIX = "tokenizer.ggml.";
const READ_KEYS = new Set(
  [
    "model",
    "pre",
    "tokens",
    "scores",
    "token_type",
    "merges",
    "bos_token_id",
    "add_bos_token",
    "add_space_prefix",
  ]
    .map((key) => PREFIX + key),
);

/** Keys that do not touch how plain text becomes ids. */
const INFORMATIVE_KEY =
  /^tokenizer\.ggml\.((eos|eot|eom|unknown|padding|separator|seperator|cls|mask|prefix|suffix|middle|fim_[a-z]+)_token_id(s)?|token_type_count)$/;

/** Keys that would change the ids, and the one value of each that changes nothing. */
const NEUTRAL_VALUES: { readonly [key: string]: boolean } = {
  "tokenizer.ggml.add_eos_token": false,
  "tokenizer.ggml.add_sep_token": false,
  "tokenizer.ggml.remove_extra_whitespaces": false,
};

/**
 * Texts that llama.cpp takes for control tokens (end of text or turn, fill-in-the-middle) even where a file calls them
 * user-defined, so that they stay plain characters.
 */
const CONTROL_TEXT = new RegExp(
  "^(" + [
    String.raw`<\|(eot_id|eom_id|im_end|end|endoftext|end_of_text|return|call|flush|calls)\|>`,
    String.raw`</s>|<eos>|_?<EOT>|\[EOT\]|\[EOS\]|<end_of_turn>|<end_of_utterance>|<｜end▁of▁sentence｜>`,
    String.raw`<\|?fim[-_](prefix|suffix|middle|pad|repo)\|?>|<｜fim▁(begin|hole|end)｜>`,
    String.raw`▁?<(PRE|SUF|MID|PAD|REPO)>|<\|(code_)?(prefix|suffix|middle)\|>`,
    String.raw`<\|repo_name\|>|<reponame>|<\|?file_sep\|?>`,
  ].join("|") + ")$",
);

/** The vocabulary of a file. */
interface Vocabulary {
  readonly pieces: readonly string[];
  readonly types: readonly number[];
  readonly idOf: ReadonlyMap<string, number>;
}

/** What the two kinds of vocabulary do in their own way. */
interface Scheme {
  /** Appends the ids of a stretch of plain text; `start` where nothing or a user-defined token stands before it. */
  encode(text: string, start: boolean, ids: number[]): void;
  /** The bytes that a normal or byte token stands for. */
  bytes(id: number): Uint8Array<ArrayBuffer>;
  /** Whether text begins with a space that is not there. */
  readonly addsSpace: boolean;
}

const SPACE = "\u2581";

/**
 * A model's tokenizer: SentencePiece BPE (`llama`) or byte-level BPE (`gpt2`).
 *
 * Text is only text: what looks like a control token ("<s>", "<|im_end|>") is encoded as the characters it is made
 * of, as llama.cpp does with `parse_special` off. User-defined tokens of the vocabulary are taken whole.
 * Lone surrogates count as U+FFFD; a byte for which a byte-level vocabulary has no token adds none.
 *
 * @example
 * ```ts
 * import { Tokenizer } from "@tokenfilter/tokenfilter";
 * import { parseGguf, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * const tokenizer = Tokenizer.fromGguf(parseGguf(bytes, path));
 * const ids = tokenizer.encode("Hello world", { bos: true });
 * console.assert(ids[0] === tokenizer.bosId && tokenizer.decode(ids.slice(1)) === "Hello world");
 * ```
 */
export class Tokenizer {
  /** Number of tokens. */
  readonly vocabSize: number;
  /** Id of the token that begins a sequence, where the vocabulary has one. */
  readonly bosId: number | undefined;
  /** Whether the model expects one BOS before every text. */
  readonly addsBos: boolean;
  readonly #vocabulary: Vocabulary;
  readonly #scheme: Scheme;
  /** Texts of user-defined tokens, longest first. */
  readonly #userDefined: readonly string[];

  private constructor(
    vocabulary: Vocabulary,
    scheme: Scheme,
    bosId: number | undefined,
    addsBos: boolean,
  ) {
    this.vocabSize = vocabulary.pieces.length;
    this.bosId = bosId;
    this.addsBos = addsBos;
    this.#vocabulary = vocabulary;
    this.#scheme = scheme;
    const utf8 = new TextEncoder();
    const size = (text: string) => utf8.encode(text).length;
    this.#userDefined = vocabulary.pieces
      .filter((piece, id) => vocabulary.types[id] === TYPE.userDefined && !CONTROL_TEXT.test(piece))
      .toSorted((a, b) => size(b) - size(a));
  }

  /**
   * Reads a tokenizer from a GGUF file's metadata.
   *
   * @throws {ModelFormatError} If the vocabulary's kind or its `tokenizer.ggml.pre` is not known, a list is missing or
   * of another length, or a key would change the ids in a way that is not known here; the message names the key.
   */
  static fromGguf(gguf: GgufFile): Tokenizer {
    expectKnownKeys(gguf);
    const model = gguf.string(PREFIX + "model");
    if (model !== "llama" && model !== "gpt2") {
      throw gguf.error(PREFIX + "model", `found "${model}", expected "llama" or "gpt2"`);
    }
    const vocabulary = readVocabulary(gguf);
    const scheme = model === "llama" ? sentencePiece(gguf, vocabulary) : byteLevel(gguf, vocabulary);
    const bosId = readBosId(gguf, vocabulary.pieces.length);
    // Without the key llama.cpp takes true for SentencePiece, and for byte-level BPE what the family does.
    const usual = model === "llama" || PRE_TOKENIZERS[gguf.string(PREFIX + "pre")]!.addsBos === true;
    const addsBos = gguf.boolean(PREFIX + "add_bos_token", usual);
    if (addsBos && bosId === undefined) {
      throw gguf.error(
        PREFIX + "bos_token_id",
        "found no such key, expected the id that add_bos_token asks for",
      );
    }
    return new Tokenizer(vocabulary, scheme, bosId, addsBos);
  }

  /**
   * Reads a tokenizer from the text of a Hugging Face folder's tokenizer.json.
   *
   * @throws {ModelFormatError} If it is no such file, its model is not BPE, or it has a part that is not known here.
   */
  static fromHf(file: string, text: string): Tokenizer {
    const { pieces, special, bosId, ...scheme } = readHfVocabulary(file, text);
    const idOf = new Map(pieces.map((piece, id) => [piece, id]));
    const types = pieces.map((piece, id) => special.has(id) || piece === "" ? TYPE.control : TYPE.normal);
    const encode: Scheme["encode"] = (text, _start, ids) => {
      for (const id of scheme.encode(text)) ids.push(id);
    };
    return new Tokenizer({ pieces, types, idOf }, { ...scheme, encode }, bosId, bosId !== undefined);
  }

  /**
   * Token ids of a text.
   *
   * @param options.bos Whether one BOS goes first; by default where the model expects it ({@linkcode addsBos}).
   * @returns Ids, in [0, vocabSize).
   * @throws {RangeError} If a BOS is asked for and the vocabulary has none.
   */
  encode(text: string, options: { readonly bos?: boolean } = {}): Int32Array<ArrayBuffer> {
    expectTypeOf("text", text, "string");
    const ids: number[] = [];
    if (options.bos ?? this.addsBos) {
      if (this.bosId === undefined) {
        throw new RangeError("Cannot begin with a BOS token: found none in the vocabulary, expected one");
      }
      ids.push(this.bosId);
    }
    let start = true;
    for (const part of this.#splitUserDefined(text.toWellFormed())) {
      if (typeof part === "number") ids.push(part);
      else this.#scheme.encode(part, start, ids);
      start = typeof part === "number";
    }
    return Int32Array.from(ids);
  }

  /**
   * Text of token ids. Control tokens have no text; bytes that are no UTF-8 become U+FFFD.
   *
   * @throws {RangeError} If an id is not in the vocabulary.
   */
  decode(ids: ArrayLike<number>): string {
    const parts = Array.from(ids, (id) => this.bytes(id));
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    return this.#scheme.addsSpace && text.startsWith(" ") ? text.slice(1) : text;
  }

  /**
   * What each token adds to the text, spaces included; a character that several tokens share belongs to the last of
   * them. Joined they are the text, but for a space that the tokenizer put in front.
   *
   * @throws {RangeError} If an id is not in the vocabulary.
   *
   * @example
   * ```ts
   * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
   * const { tokenizer } = await loadModel("tiny", new ReferenceBackend());
   * const ids = tokenizer.encode("Déjà vu at sea", { bos: false });
   * console.assert(tokenizer.texts(ids).join("") === " Déjà vu at sea");
   * ```
   */
  texts(ids: ArrayLike<number>): string[] {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const texts = Array.from(ids, (id) => decoder.decode(this.bytes(id), { stream: true }));
    if (texts.length > 0) texts[texts.length - 1] += decoder.decode();
    return texts;
  }

  /**
   * The vocabulary's own writing of a token, for tables: "\u2581the", "<0x0A>", "\u0120the".
   *
   * @throws {RangeError} If the id is not in the vocabulary.
   */
  piece(id: number): string {
    const piece = this.#vocabulary.pieces[id];
    if (piece === undefined) {
      throw new RangeError(`Cannot use token ${id}: expected an id from 0 to ${this.vocabSize - 1}`);
    }
    return piece;
  }

  /**
   * The bytes that a token adds to a text; none for control tokens. A character may be spread over several tokens.
   *
   * @throws {RangeError} If the id is not in the vocabulary.
   */
  bytes(id: number): Uint8Array<ArrayBuffer> {
    const piece = this.piece(id);
    switch (this.#vocabulary.types[id]) {
      case TYPE.normal:
      case TYPE.byte:
        return this.#scheme.bytes(id);
      case TYPE.userDefined:
        return new TextEncoder().encode(piece);
      default:
        return new Uint8Array(0);
    }
  }

  /** Cuts out user-defined tokens, the longest first over the whole text, as llama.cpp does. */
  #splitUserDefined(text: string): (string | number)[] {
    let parts: (string | number)[] = text === "" ? [] : [text];
    for (const token of this.#userDefined) {
      const id = this.#vocabulary.idOf.get(token)!;
      parts = parts.flatMap((part) =>
        typeof part === "number" || !part.includes(token)
          ? [part]
          : part.split(token).flatMap((piece, i) => i === 0 ? [piece] : [id, piece]).filter((p) => p !== "")
      );
    }
    return parts;
  }
}

function expectKnownKeys(gguf: GgufFile): void {
  for (const [key, { value }] of gguf.metadata) {
    if (!key.startsWith(PREFIX) || READ_KEYS.has(key) || INFORMATIVE_KEY.test(key)) continue;
    if (!Object.hasOwn(NEUTRAL_VALUES, key)) {
      throw gguf.error(key, "found a key that this project does not know, so token ids could be wrong");
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
  const idOf = new Map<string, number>();
  pieces.forEach((piece, id) => {
    if (piece === "" || idOf.has(piece)) {
      const found = piece === "" ? `token ${id} empty` : `"${piece}" as token ${idOf.get(piece)} and ${id}`;
      throw gguf.error(PREFIX + "tokens", `found ${found}, expected each token once`);
    }
    idOf.set(piece, id);
  });
  const known: readonly number[] = Object.values(TYPE);
  const odd = types.findIndex((type) => !known.includes(type));
  if (odd >= 0) {
    throw gguf.error(PREFIX + "token_type", `found type ${types[odd]} of token ${odd}, expected 1 to 6`);
  }
  return { pieces, types, idOf };
}

function expectLength(gguf: GgufFile, key: string, found: number, expected: number): void {
  if (found !== expected) {
    throw gguf.error(PREFIX + key, `found ${found} entries, expected one for each of the ${expected} tokens`);
  }
}

function readBosId(gguf: GgufFile, vocabSize: number): number | undefined {
  const key = PREFIX + "bos_token_id";
  if (!gguf.has(key)) return undefined;
  const id = gguf.integer(key);
  if (id < 0 || id >= vocabSize) {
    throw gguf.error(key, `found ${id}, expected an id from 0 to ${vocabSize - 1}`);
  }
  return id;
}

function sentencePiece(gguf: GgufFile, { pieces, types, idOf }: Vocabulary): Scheme {
  const pre = gguf.string(PREFIX + "pre", "default");
  if (pre !== "default") {
    throw gguf.error(PREFIX + "pre", `found "${pre}", expected "default" for this vocabulary`);
  }
  const addsSpace = gguf.boolean(PREFIX + "add_space_prefix", true);
  const scores = gguf.numbers(PREFIX + "scores");
  expectLength(gguf, "scores", scores.length, pieces.length);
  const byteIds = Array.from({ length: 256 }, (_, byte) => {
    const piece = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const id = idOf.get(piece);
    if (id === undefined || types[id] !== TYPE.byte) {
      throw gguf.error(PREFIX + "tokens", `found no byte token "${piece}", expected one for each byte`);
    }
    return id;
  });
  const byteOf = new Map(byteIds.map((id, byte) => [id, byte]));
  const utf8 = new TextEncoder();
  return {
    addsSpace,
    encode(text, start, ids) {
      const escaped = ((addsSpace && start ? " " : "") + text).replaceAll(" ", SPACE);
      encodeSentencePiece(escaped, idOf, scores, byteIds, ids);
    },
    bytes(id) {
      const byte = byteOf.get(id);
      return byte !== undefined ? Uint8Array.of(byte) : utf8.encode(pieces[id]!.replaceAll(SPACE, " "));
    },
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
  const encode = createByteLevelBpe(idOf, readMerges(gguf), PRE_TOKENIZERS[pre]!);
  const byteOf = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
  const utf8 = new TextEncoder();
  return {
    addsSpace: false,
    encode(text, _start, ids) {
      for (const id of encode(text)) ids.push(id);
    },
    bytes(id) {
      const characters = Array.from(pieces[id]!, (character) => byteOf.get(character));
      const whole = characters.every((byte) => byte !== undefined);
      return whole ? Uint8Array.from(characters) : utf8.encode(pieces[id]!);
    },
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
    // Of repeated merges the first counts, as in llama.cpp.
    if (!merges.has(merge)) merges.set(merge, [merge.slice(0, space), merge.slice(space + 1)]);
  }
  return [...merges.values()];
}
