/** A tokenizer.json: the library's tokenizer for it, and the bytes of each token. */
import { ModelFormatError } from "../../errors.ts";
import { parseObject } from "../formats/_keyed_file.ts";
import { bytesOfPiece } from "./_byte_level.ts";
import { createEncoders, type Encode } from "./_hf_encoder.ts";
import { type Part, writeOutNormalizer, writeOutPreTokenizer } from "./_hf_parts.ts";
import type { AddedToken, TokenizerSettings } from "./_tokenizer_settings.ts";
import { END_TEXT, SPACE, type TokenizerParts, TYPE } from "./_vocabulary.ts";

/**
 * Reads the text of a tokenizer.json.
 *
 * @param settings Settings from the folder's other files.
 * @throws {ModelFormatError} If it is no such file, its model is not BPE, or it has a part that the library lacks.
 */
export function readHfVocabulary(file: string, text: string, settings: TokenizerSettings): TokenizerParts {
  const fail = (key: string, says: string) => new ModelFormatError(file, `"${key}": ${says}`);
  const json = parseObject(file, text, "a tokenizer") as Record<string, Part | undefined>, { model } = json;
  if (model?.type !== "BPE") throw fail("model.type", `found ${JSON.stringify(model?.type)}, expected "BPE"`);
  if (typeof model["vocab"] !== "object" || model["vocab"] === null) {
    throw fail("model.vocab", "found no object");
  }
  for (const key of PARTS) expectPart(key, json[key], fail);
  expectModel(json, fail);
  // Gemma 3's text models share a file with those that see images, whose special token has no row in their tables.
  const { vocabSize = Infinity } = settings;
  const added = readAdded(json["added_tokens"], fail).filter(({ id, special }) => !special || id < vocabSize);
  const sparse: string[] = [];
  const entries = [
    ...Object.entries(model["vocab"] as Record<string, number>),
    ...added.map((t) => [t.content, t.id] as const),
  ];
  for (const [piece, id] of entries) {
    if (!Number.isInteger(id) || id < 0 || id >= 2 * entries.length) {
      throw fail(
        "model.vocab",
        `found ${JSON.stringify(id)} for "${piece}", expected an id near those of the others`,
      );
    }
    sparse[id] = piece;
  }
  const pieces = Array.from(sparse, (piece) => piece ?? "");
  const special = added.filter((token) => token.special).map(({ id }) => id);
  const whole = new Set(added.filter((token) => !token.special).map(({ id }) => id));
  const { plain, special: parse } = createBoth(json, added, fail);
  const isByteLevel = [...partsOf(json["pre_tokenizer"]), ...partsOf(json["decoder"])]
    .some(({ type }) => type === "ByteLevel");
  const types = pieces.map((piece) => piece === "" ? TYPE.control : TYPE.normal as number);
  for (const id of special) types[id] = TYPE.control;
  const idOf = new Map(pieces.map((piece, id) => [piece, id]));
  const named = (token: string | undefined) => token === undefined ? undefined : idOf.get(token);
  const first = findBos(json["post_processor"], fail);
  const bosId = first ?? named(settings.bosToken), eosId = named(settings.eosToken);
  const ends = special.filter((id) => END_TEXT.test(pieces[id]!));
  const push = (by: Encode, text: string, ids: number[]) => {
    try {
      by(text).forEach((id) => ids.push(id));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // a normalizer that makes a text of any length of it
      throw fail("normalizer", `cannot be used on a text of ${text.length} characters: ${error.message}`);
    }
  };
  return {
    vocabulary: { pieces, types, idOf },
    scheme: {
      encode: (text, _after, ids) => push(plain, text, ids),
      encodeSpecial: (text, ids) => push(parse, text, ids),
      bytes: (id) => bytesOf(pieces[id]!, whole.has(id), isByteLevel),
      addsSpace: partsOf(json["normalizer"]).some(({ type }) => type === "Prepend") ||
        partsOf(json["pre_tokenizer"]).some(({ type, prepend_scheme: scheme }) =>
          type === "Metaspace" && scheme !== "never"
        ),
    },
    bosId,
    addsBos: bosId !== undefined && (settings.addsBos ?? first !== undefined),
    eosId,
    endIds: new Set([...(eosId === undefined ? [] : [eosId]), ...ends, ...settings.endIds]),
    chatTemplate: settings.chatTemplate,
    hasPatterns: [...partsOf(json["normalizer"]), ...partsOf(json["pre_tokenizer"])]
      .some(({ pattern }) => Object(pattern)["Regex"] !== undefined),
  };
}

/** How plain text is encoded, special tokens in it being characters, and how a text whose special tokens are tokens. */
function createBoth(json: Record<string, Part | undefined>, added: readonly AddedToken[], fail: Fail) {
  const { normalizer, pre_tokenizer: words, model } = json;
  const parts = {
    model: Object.fromEntries(MODEL_KEYS.map((key) => [key, model![key]])),
    normalizer: normalizer ? writeOutNormalizer(normalizer) : null,
    pre_tokenizer: words ? writeOutPreTokenizer(words, fail) : null,
  };
  const make = (changes: object = {}): { plain: Encode; special: Encode } => {
    const create = createEncoders({ ...parts, ...changes });
    const both = { plain: create(added.filter((token) => !token.special)), special: create(added) };
    both.special(PROBE);
    return both;
  };
  try {
    return make();
  } catch (error) {
    // The library does not name the part at which it failed. If it succeeds without a part, that part is the cause.
    const key = ["normalizer", "pre_tokenizer"].find((key) => {
      try {
        return make({ [key]: null });
      } catch {
        return false;
      }
    });
    throw fail(key ?? "model", `found a part that cannot be used: ${(error as Error).message}`);
  }
}

/** Keys of a model that are known; others change nothing in tokenizers, but could here. */
const MODEL_KEYS = [
  ...["type", "vocab", "merges", "unk_token", "end_of_word_suffix"],
  ...["fuse_unk", "byte_fallback", "ignore_merges"],
];

/** Refuses parts of BPE that the library lacks, and parts that depend on how a normalizer counts characters. */
function expectModel(
  { model, normalizer, pre_tokenizer: words }: Record<string, Part | undefined>,
  fail: Fail,
): void {
  const { continuing_subword_prefix: prefix, dropout, unk_token: unknown, merges } = model!;
  if (typeof prefix === "string" && prefix !== "") {
    throw fail("model.continuing_subword_prefix", `found ${JSON.stringify(prefix)}, expected none`);
  }
  if (typeof dropout === "number" && dropout !== 0) {
    throw fail("model.dropout", `found ${dropout}, expected none: ids would be drawn at random`);
  }
  const holds = (pair: unknown) =>
    [pair].flat().flatMap((part) => String(part).split(" ")).includes(String(unknown));
  if (typeof unknown === "string" && Array.isArray(merges) && merges.some(holds)) {
    throw fail("model.merges", `found one with "${unknown}", expected none of unknown characters`);
  }
  if (normalizer && partsOf(words).some(({ prepend_scheme: scheme }) => scheme === "first")) {
    throw fail(
      "pre_tokenizer",
      'found Metaspace of the scheme "first" with a normalizer, expected one of them',
    );
  }
}

/** Parts of a tokenizer next to its model. */
const PARTS = ["normalizer", "pre_tokenizer", "decoder", "post_processor"] as const;

/** A text that every part has something to do with. */
const PROBE = " It's  1234 é\u2581<s>\n";

type Fail = (key: string, says: string) => ModelFormatError;

/** Checks that a part is one, or a list of some. */
function expectPart(key: string, part: unknown, fail: Fail, depth = 0): void {
  if (part === undefined || part === null) return;
  const says = () => `found ${JSON.stringify(part)?.slice(0, 100)}, expected an object with a type`;
  if (typeof part !== "object" || typeof (part as Part).type !== "string" || depth > 8) {
    throw fail(key, says());
  }
  const { normalizers, pretokenizers, decoders, processors, pattern, type } = part as Part;
  if (key === "post_processor" && !/^(Sequence|TemplateProcessing|ByteLevel)$/.test(type!)) {
    throw fail(key, `found ${type}, expected TemplateProcessing, ByteLevel or a Sequence of them`);
  }
  // The library only approximates the rules in a charsmap; another sign for a space has no text here.
  if (type === "Precompiled" || (type === "Metaspace" && (part as Part)["replacement"] !== SPACE)) {
    throw fail(key, `found ${JSON.stringify(part).slice(0, 100)}, which this project does not support`);
  }
  // Without a pattern of a known form the library warns, and drops the text.
  if (type === "Split" || type === "Replace") {
    const { Regex, String } = (pattern ?? {}) as { readonly Regex?: unknown; readonly String?: unknown };
    if (typeof (Regex ?? String) !== "string") {
      const found = `${type} with the pattern ${JSON.stringify(pattern)?.slice(0, 100)}`;
      throw fail(key, `found ${found}, expected a Regex or a String`);
    }
  }
  for (const inner of [normalizers, pretokenizers, decoders, processors]) {
    if (inner === undefined) continue;
    if (!Array.isArray(inner)) throw fail(key, says());
    for (const each of inner) expectPart(key, each ?? 0, fail, depth + 1);
  }
}

function readAdded(value: unknown, fail: Fail): readonly AddedToken[] {
  const isToken = (token: Partial<AddedToken> | null) =>
    typeof token?.content === "string" && Number.isSafeInteger(token.id);
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every(isToken)) {
    const alone = value.find((token) => token.single_word === true);
    if (alone === undefined) return value;
    throw fail(
      "added_tokens",
      `found "${alone.content}" with single_word, expected tokens anywhere in a text`,
    );
  }
  throw fail("added_tokens", "found no list of tokens with content and id, expected one");
}

function partsOf(part: Part | null | undefined): readonly Part[] {
  if (part === undefined || part === null) return [];
  const inner = part["normalizers"] ?? part["pretokenizers"] ?? part["decoders"] ?? part["processors"];
  return Array.isArray(inner) ? inner.flatMap((each: Part) => partsOf(each)) : [part];
}

/** The token that a template puts before a text. */
function findBos(processor: Part | null | undefined, fail: Fail) {
  const template = partsOf(processor).find(({ type }) => type === "TemplateProcessing");
  if (template === undefined) return undefined;
  const items =
    (template["single"] ?? []) as readonly ({ readonly SpecialToken?: { readonly id: string } } | null)[];
  if (!Array.isArray(items)) throw fail("post_processor.single", "found no list, expected one");
  const tokens = items.map((item) => item?.SpecialToken?.id), [first] = tokens;
  if (tokens.length > 2 || (tokens.length === 2 && tokens[1] !== undefined)) {
    throw fail(
      "post_processor.single",
      `found ${tokens.length} items, expected a text with at most a token before it`,
    );
  }
  if (first === undefined) return undefined;
  const known = template["special_tokens"] as
    | Record<string, { readonly ids?: readonly number[] }>
    | undefined;
  const id = known?.[first]?.ids?.[0];
  if (id !== undefined && !Number.isSafeInteger(id)) {
    throw fail(
      "post_processor.special_tokens",
      `found ${JSON.stringify(id)} for "${first}", expected a token's id`,
    );
  }
  return id;
}

/** The bytes of a token that is not special. @param isWhole Whether it is an added token, whose text is its own. */
function bytesOf(piece: string, isWhole: boolean, isByteLevel: boolean): Uint8Array<ArrayBuffer> {
  if (isByteLevel && !isWhole) return bytesOfPiece(piece);
  const byte = isWhole ? undefined : /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1];
  if (byte !== undefined) return Uint8Array.of(parseInt(byte, 16));
  return new TextEncoder().encode(isWhole ? piece : piece.replaceAll(SPACE, " "));
}
