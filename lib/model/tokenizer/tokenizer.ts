/** Text to token ids and back, by a file's own vocabulary, id for id as the tools do that the file was made for. */
import { expectTypeOf } from "../../errors.ts";
import { sha256, toHex } from "../../sha256.ts";
import { readGgufVocabulary } from "./_gguf_vocabulary.ts";
import { readHfVocabulary } from "./_hf_tokenizer.ts";
import { CONTROL_TEXT, type Scheme, type TokenizerParts, TYPE, type Vocabulary } from "./_vocabulary.ts";
import { readSentencePieceModel } from "./_sentencepiece_model.ts";
import { NO_SETTINGS, type TokenizerSettings } from "./_tokenizer_settings.ts";
import type { GgufFile } from "../formats/gguf.ts";

/** @internal The file of a tokenizer, and the settings that it was read with. */
export interface TokenizerOrigin {
  readonly file: string;
  readonly settings: TokenizerSettings;
}

/**
 * A model's tokenizer: SentencePiece (BPE) or byte-level BPE, of a GGUF file (ids as llama.cpp has them) or a
 * Hugging Face folder (ids as transformers has them).
 *
 * Control tokens in a text ("<s>", "<|im_end|>") are encoded as the characters that they consist of, as llama.cpp does
 * with `parse_special` off, unless `special` asks for the token. User-defined tokens of the vocabulary are taken whole.
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
  /** Id of the token that ends a text, where the files name one. */
  readonly eosId: number | undefined;
  /** Ids of the tokens that end a text or a turn: generation stops at one. */
  readonly endIds: ReadonlySet<number>;
  /** How a conversation becomes a text, in Jinja, where the model has been taught one. */
  readonly chatTemplate: string | undefined;
  readonly #vocabulary: Vocabulary;
  readonly #scheme: Scheme;
  /** Texts of user-defined tokens, longest first. */
  readonly #userDefined: readonly string[];
  /** Those of special tokens too. */
  readonly #whole: readonly string[];
  /** Ids that the model has; those past the vocabulary's stand for no text. */
  readonly #ids: number;

  /**
   * From where it can be opened again, where texts go through regular expressions of its file: they may take years on some.
   * @internal
   */
  readonly origin: TokenizerOrigin | undefined;

  private constructor({ vocabulary, scheme, ...told }: TokenizerParts, ids = 0, origin?: TokenizerOrigin) {
    this.vocabSize = vocabulary.pieces.length;
    this.#ids = Math.max(ids, this.vocabSize);
    this.bosId = told.bosId;
    this.addsBos = told.addsBos;
    this.eosId = told.eosId;
    this.endIds = told.endIds;
    this.chatTemplate = told.chatTemplate;
    this.origin = told.hasPatterns === true ? origin : undefined;
    this.#vocabulary = vocabulary;
    this.#scheme = scheme;
    const utf8 = new TextEncoder();
    const size = (text: string) => utf8.encode(text).length;
    const ofTypes = (types: readonly number[], holds: (piece: string) => boolean = () => true) =>
      vocabulary.pieces
        .filter((piece, id) => piece !== "" && types.includes(vocabulary.types[id]!) && holds(piece))
        .filter((piece) => !scheme.finds?.has(piece))
        .toSorted((a, b) => size(b) - size(a));
    this.#userDefined = ofTypes([TYPE.userDefined], (piece) => !CONTROL_TEXT.test(piece));
    this.#whole = ofTypes([TYPE.userDefined, TYPE.control, TYPE.unknown]);
  }

  /**
   * Reads a tokenizer from a GGUF file's metadata.
   *
   * @throws {ModelFormatError} If the vocabulary's kind or its `tokenizer.ggml.pre` is not known, or a list is missing
   * or of another length. Also if a key would change the ids in an unknown way. The message names the key.
   */
  static fromGguf(gguf: GgufFile): Tokenizer {
    return new Tokenizer(readGgufVocabulary(gguf));
  }

  /**
   * Reads a tokenizer from the text of a Hugging Face folder's tokenizer.json.
   *
   * @param settings Settings from the folder's other files.
   * @throws {ModelFormatError} If it is no such file, its model is not BPE, or it has a part that is not known here.
   * @internal
   */
  static fromHf(file: string, text: string, settings: TokenizerSettings = NO_SETTINGS): Tokenizer {
    return new Tokenizer(readHfVocabulary(file, text, settings), settings.vocabSize, { file, settings });
  }

  /**
   * The same from a tokenizer.model, the file of SentencePiece.
   * @internal
   */
  static fromSentencePiece(file: string, bytes: Uint8Array, settings = NO_SETTINGS): Tokenizer {
    return new Tokenizer(readSentencePieceModel(file, bytes, settings), settings.vocabSize);
  }

  /**
   * Token ids of a text.
   *
   * @param options.bos Whether a BOS comes first, by default where the model expects it ({@linkcode addsBos}); an
   * existing one is not doubled.
   * @param options.special Whether special tokens that are written in the text are taken as tokens. Default: no.
   * @returns Ids, in [0, vocabSize).
   * @throws {RangeError} If a BOS is asked for and the vocabulary has none.
   */
  encode(
    text: string,
    { bos = this.addsBos, special = false }: { readonly bos?: boolean; readonly special?: boolean } = {},
  ): Int32Array<ArrayBuffer> {
    expectTypeOf("text", text, "string");
    const ids: number[] = [], formed = text.toWellFormed();
    if (special && this.#scheme.encodeSpecial !== undefined) this.#scheme.encodeSpecial(formed, ids);
    else {
      let after: number | undefined;
      for (const part of this.#cut(formed, special ? this.#whole : this.#userDefined)) {
        if (typeof part === "number") ids.push(part);
        else this.#scheme.encode(part, after, ids);
        after = typeof part === "number" ? part : undefined;
      }
    }
    if (bos && this.bosId === undefined) {
      throw new RangeError("Cannot begin with a BOS token: found none in the vocabulary, expected one");
    }
    return Int32Array.from(bos && ids[0] !== this.bosId ? [this.bosId!, ...ids] : ids);
  }

  /**
   * Gives back the memory that only encoding needs, about 20 MB for 50,000 tokens; the next text takes it again.
   * @internal
   */
  rest(): void {
    this.#scheme.rest?.();
  }

  /**
   * Text of token ids. Control tokens have no text, nor have ids that only pad the model's tables; bytes that are no UTF-8
   * become U+FFFD.
   *
   * @throws {RangeError} If an id is not in the vocabulary.
   */
  decode(ids: ArrayLike<number>): string {
    const stream = this.decodeStream();
    return Array.from(ids, (id) => stream.next(id)).join("") + stream.end();
  }

  /**
   * The text of ids that come one by one. `next(id)` is the text that a token completes; it is empty as long as a character
   * lacks bytes. `end()` is the rest: U+FFFD for a character that was not completed. Joined they equal {@linkcode decode}.
   *
   * @param before Ids of the text that the stream continues, such as a prompt: then a space in front belongs to the text.
   * @throws {RangeError} If an id is not in the vocabulary.
   *
   * @example
   * ```ts
   * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
   * const { tokenizer } = await loadModel("tiny", new ReferenceBackend());
   * const stream = tokenizer.decodeStream();
   * let text = "";
   * for (const id of tokenizer.encode("The sea 🦜 is calm.")) text += stream.next(id);
   * console.assert(text + stream.end() === "The sea 🦜 is calm.");
   * ```
   */
  decodeStream(before: ArrayLike<number> = []): { next(id: number): string; end(): string } {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let isFirst = this.#scheme.addsSpace && !Array.from(before).some((id) => this.bytes(id).length > 0);
    const show = (text: string) => {
      const shown = isFirst && text.startsWith(" ") ? text.slice(1) : text;
      isFirst &&= text === "";
      return shown;
    };
    return {
      next: (id) => show(decoder.decode(this.bytes(id), { stream: true })),
      end: () => show(decoder.decode()),
    };
  }

  /**
   * The text that each token adds, spaces included; a character that several tokens share belongs to the last of them.
   * Joined they are the text, but for a space that the tokenizer put in front.
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
    if (piece !== undefined) return piece;
    if (id >= this.vocabSize && id < this.#ids) return "";
    throw new RangeError(`Cannot use token ${id}: expected an id from 0 to ${this.#ids - 1}`);
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

  /** Cuts out tokens by their texts, the longest first over the whole text, as llama.cpp does. */
  #cut(text: string, tokens: readonly string[]): (string | number)[] {
    let parts: (string | number)[] = text === "" ? [] : [text];
    for (const token of tokens) {
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

/** Letters, digits, spaces, scripts and signs: their token ids distinguish merges and rules of different tokenizers. */
const PROBE =
  "The quick brown fox's 12,345 jumps — over\n\n  the lazy dog! don't; naïve café, Ελλάδα, Москва, 東京, 🦊 x_1 += (a/b)\t";

/**
 * SHA-256 of every token's bytes, of the ids that are special, and of the ids of a fixed text.
 *
 * @returns Lower-case hex.
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
  const tokens = Array.from({ length: vocabSize }, (_, id) => toHex(tokenizer.bytes(id)));
  const ends = [...endIds].sort((a, b) => a - b);
  return await sha256(JSON.stringify([tokens, bosId ?? null, addsBos, ends, [...tokenizer.encode(PROBE)]]));
}
