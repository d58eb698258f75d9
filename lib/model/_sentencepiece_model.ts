/** A tokenizer's parts out of a tokenizer.model: the file of SentencePiece, in protocol buffers. */
import { BinaryReader, type WireType } from "@bufbuild/protobuf/wire";
import { ModelFormatError } from "../errors.ts";
import { createSentencePiece } from "./_sentencepiece.ts";
import { END_TEXT, type TokenizerParts, TYPE } from "./_vocabulary.ts";
import type { TokenizerSettings } from "./_tokenizer_settings.ts";

/** Most pieces: the largest published vocabularies have some 260,000. */
const MAX_PIECES = 1 << 21;

/** What of a ModelProto counts, by the field numbers of sentencepiece_model.proto, with their defaults. */
interface Proto {
  readonly pieces: string[];
  readonly scores: number[];
  readonly types: number[];
  /** TrainerSpec: 1 = unigram, 2 = BPE, 3 = word, 4 = char. */
  modelType: number;
  byteFallback: boolean;
  spaceIsSuffix: boolean;
  bosId: number;
  eosId: number;
  /** NormalizerSpec. */
  charsmapBytes: number;
  addsSpace: boolean;
  removesSpaces: boolean;
  escapesSpaces: boolean;
}

/** Fields of a message: the number of each, with what reads it; others are passed over. */
type Fields = { readonly [field: number]: (reader: BinaryReader) => void };

function readMessage(reader: BinaryReader, end: number, fields: Fields): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    const read = Object.hasOwn(fields, field) ? fields[field] : undefined;
    if (read === undefined) reader.skip(type as WireType, field);
    else read(reader);
  }
  if (reader.pos > end) throw new RangeError("a message ends within a field");
}

/** Reads a message inside another. */
const inner = (fields: Fields) => (reader: BinaryReader): void => {
  const size = reader.uint32();
  readMessage(reader, reader.pos + size, fields);
};

function readProto(bytes: Uint8Array): Proto {
  const proto: Proto = {
    ...{ pieces: [], scores: [], types: [] },
    ...{ modelType: 1, byteFallback: false, spaceIsSuffix: false, bosId: 1, eosId: 2 },
    ...{ charsmapBytes: 0, addsSpace: true, removesSpaces: true, escapesSpaces: true },
  };
  const reader = new BinaryReader(bytes);
  readMessage(reader, bytes.length, {
    1: (reader) => {
      let piece = "", score = 0, type: number = TYPE.normal;
      inner({
        1: (r) => piece = r.string(),
        2: (r) => score = r.float(),
        3: (r) => type = r.int32(),
      })(reader);
      proto.pieces.push(piece);
      proto.scores.push(score);
      proto.types.push(type);
      if (proto.pieces.length > MAX_PIECES) throw new RangeError(`more than ${MAX_PIECES} pieces`);
    },
    2: inner({
      3: (r) => proto.modelType = r.int32(),
      24: (r) => proto.spaceIsSuffix = r.bool(),
      35: (r) => proto.byteFallback = r.bool(),
      41: (r) => proto.bosId = r.int32(),
      42: (r) => proto.eosId = r.int32(),
    }),
    3: inner({
      2: (r) => proto.charsmapBytes = r.bytes().length,
      3: (r) => proto.addsSpace = r.bool(),
      4: (r) => proto.removesSpaces = r.bool(),
      5: (r) => proto.escapesSpaces = r.bool(),
    }),
  });
  return proto;
}

/**
 * Reads a tokenizer.model.
 *
 * @param settings What the folder's other files say of it.
 * @throws {ModelFormatError} If it is no such file, or would cut text in a way that is not known here.
 */
export function readSentencePieceModel(
  file: string,
  bytes: Uint8Array,
  settings: TokenizerSettings,
): TokenizerParts {
  const fail = (says: string) => new ModelFormatError(file, says);
  let proto: Proto;
  try {
    proto = readProto(bytes);
  } catch (error) {
    throw fail(`found no SentencePiece model: ${(error as Error).message}`);
  }
  const { pieces, scores, types } = proto;
  const expect = (key: string, found: unknown, expected: unknown, why: string) => {
    if (found !== expected) throw fail(`"${key}": found ${found}, expected ${expected}, ${why}`);
  };
  if (pieces.length === 0) throw fail("found no pieces, expected a SentencePiece model");
  expect("trainer_spec.model_type", proto.modelType, 2, "byte-pair encoding");
  expect("trainer_spec.byte_fallback", proto.byteFallback, true, "since text becomes ids without a loss");
  expect("trainer_spec.treat_whitespace_as_suffix", proto.spaceIsSuffix, false, "as Llama's has it");
  expect("normalizer_spec.precompiled_charsmap", proto.charsmapBytes, 0, "no bytes: text is not normalised");
  expect("normalizer_spec.remove_extra_whitespaces", proto.removesSpaces, false, "as Llama's has it");
  expect("normalizer_spec.escape_whitespaces", proto.escapesSpaces, true, "as Llama's has it");
  for (const { id, content, special } of settings.added) {
    if (id < pieces.length) {
      if (special && pieces[id] === content) types[id] = TYPE.control;
      continue;
    }
    if (id !== pieces.length) throw fail(`found added token ${id}, expected ${pieces.length} first`);
    pieces.push(content);
    scores.push(0);
    types.push(special ? TYPE.control : TYPE.userDefined);
  }
  const idOf = new Map<string, number>();
  pieces.forEach((piece, id) => {
    if (piece === "" || idOf.has(piece)) {
      throw fail(`found piece ${id} ${JSON.stringify(piece)} empty or twice`);
    }
    idOf.set(piece, id);
  });
  const known = new Set<number>(Object.values(TYPE));
  const odd = types.findIndex((type) => !known.has(type));
  if (odd >= 0) throw fail(`found type ${types[odd]} of piece ${odd}, expected 1 to 6`);
  const vocabulary = { pieces, types, idOf }, has = (id: number) => id >= 0 && id < pieces.length;
  const bosId = has(proto.bosId) ? proto.bosId : undefined,
    eosId = has(proto.eosId) ? proto.eosId : undefined;
  const ends = pieces.flatMap((piece, id) => END_TEXT.test(piece) && types[id] !== TYPE.normal ? [id] : []);
  return {
    vocabulary,
    scheme: createSentencePiece(vocabulary, scores, proto.addsSpace, {
      // Special tokens part a text, tokens that a user defined do not.
      beginsAfter: (id) => types[id] === TYPE.control || types[id] === TYPE.unknown,
      fail,
    }),
    bosId,
    addsBos: bosId !== undefined && (settings.addsBos ?? true),
    eosId,
    endIds: new Set([...(eosId === undefined ? [] : [eosId]), ...ends, ...settings.endIds]),
    chatTemplate: settings.chatTemplate,
  };
}
