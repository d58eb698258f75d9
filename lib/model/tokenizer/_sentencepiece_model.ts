/** A tokenizer's parts out of a tokenizer.model: the file of SentencePiece, in protocol buffers. */
import { BinaryReader, type WireType } from "@bufbuild/protobuf/wire";
import { ModelFormatError } from "../../errors.ts";
import { bytesOf, encodeSentencePiece } from "./_sentencepiece.ts";
import {
  createVocabulary,
  END_TEXT,
  matcherOf,
  type Scheme,
  SPACE,
  type TokenizerParts,
  TYPE,
  type Vocabulary,
} from "./_vocabulary.ts";
import type { TokenizerSettings } from "./_tokenizer_settings.ts";

/** The kind of models that merges pairs, as a file numbers kinds. */
const BPE = 2;
/** Most pieces: the largest published vocabularies have about 260,000. */
const MAX_PIECES = 1 << 21;

/** The relevant fields of a ModelProto, as named in sentencepiece_model.proto, with their defaults. */
const createProto = () => ({
  pieces: [] as string[],
  scores: [] as number[],
  types: [] as number[],
  /** TrainerSpec: 1 = unigram, 2 = BPE, 3 = word, 4 = char. */
  modelType: 1,
  byteFallback: false,
  spaceIsSuffix: false,
  unknownId: 0,
  bosId: 1,
  eosId: 2,
  /** NormalizerSpec. */
  charsmap: new Uint8Array(0) as Uint8Array,
  addsSpace: true,
  removesSpaces: true,
  escapesSpaces: true,
});
type Proto = ReturnType<typeof createProto>;

/** Fields of a message: the number of each, with its reader; others are skipped. */
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

const inner = (fields: Fields) => (reader: BinaryReader): void => {
  const size = reader.uint32();
  readMessage(reader, reader.pos + size, fields);
};

function readProto(bytes: Uint8Array): Proto {
  const proto = createProto(), reader = new BinaryReader(bytes);
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
      40: (r) => proto.unknownId = r.int32(),
      41: (r) => proto.bosId = r.int32(),
      42: (r) => proto.eosId = r.int32(),
    }),
    3: inner({
      2: (r) => proto.charsmap = r.bytes(),
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
 * @param settings Settings from the folder's other files.
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
  if (pieces.length === 0) throw fail('"pieces": found none, expected a SentencePiece model');
  expect("trainer_spec.model_type", proto.modelType, BPE, "BPE");
  expect("trainer_spec.treat_whitespace_as_suffix", proto.spaceIsSuffix, false, "as Llama's has it");
  expect("normalizer_spec.escape_whitespaces", proto.escapesSpaces, true, "as Llama's has it");
  expect("normalizer_spec.remove_extra_whitespaces", proto.removesSpaces, false, "as Llama's has it");
  expect("bytes of normalizer_spec.precompiled_charsmap", proto.charsmap.length, 0, "as Llama's has it");
  const own = pieces.length;
  for (const { id, content, special, strips } of settings.added) {
    if (strips) {
      const found = `${JSON.stringify(content)}, which takes spaces next to it`;
      throw fail(`"added_tokens_decoder": found ${found}, expected none`);
    }
    if (id < own) {
      if (special && pieces[id] === content) types[id] = TYPE.control;
      continue;
    }
    if (id !== pieces.length) {
      throw fail(`"added_tokens_decoder": found token ${id}, expected ${pieces.length} first`);
    }
    pieces.push(content);
    scores.push(0);
    types.push(special ? TYPE.control : TYPE.userDefined);
  }
  const vocabulary = createVocabulary(pieces, types, (_, says) => fail(`"pieces": ${says}`));
  const has = (id: number) => id >= 0 && id < pieces.length;
  if (!proto.byteFallback && types[proto.unknownId] !== TYPE.unknown) {
    throw fail(`"trainer_spec.unk_id": found ${proto.unknownId}, expected the piece for what is unknown`);
  }
  const bosId = has(proto.bosId) ? proto.bosId : undefined,
    eosId = has(proto.eosId) ? proto.eosId : undefined;
  const ends = pieces.flatMap((piece, id) => END_TEXT.test(piece) && types[id] !== TYPE.normal ? [id] : []);
  return {
    vocabulary,
    scheme: createScheme(vocabulary, scores, own, proto, settings, fail),
    bosId,
    addsBos: bosId !== undefined && (settings.addsBos ?? true),
    eosId,
    endIds: new Set([...(eosId === undefined ? [] : [eosId]), ...ends, ...settings.endIds]),
    chatTemplate: settings.chatTemplate,
  };
}

/** How SentencePiece, and transformers about it, apply the vocabulary. @param own Pieces of the file itself */
function createScheme(
  vocabulary: Vocabulary,
  scores: readonly number[],
  own: number,
  { byteFallback, unknownId, addsSpace: usual }: Proto,
  { legacy = true, addsSpace: asked }: TokenizerSettings,
  fail: (says: string) => Error,
): Scheme {
  const { pieces, types, idOf } = vocabulary, bytes = bytesOf(vocabulary, fail, byteFallback);
  // In legacy mode only the file decides whether a space is added, and each stretch between special tokens is a text.
  const addsSpace = legacy ? usual : asked ?? usual;
  const finds = new Set(pieces.filter((_, id) => id < own && types[id] === TYPE.userDefined));
  const whole = matcherOf([...finds]);
  const mergeable = new Map(
    [...idOf].filter(([, id]) => id < own && (types[id] === TYPE.normal || types[id] === TYPE.userDefined)),
  );
  return {
    addsSpace,
    finds,
    encode(text, after, ids) {
      let endOfUnknown = -1;
      const unknown = (symbol: string, ids: number[]) => {
        if (byteFallback) return bytes.spell(symbol, ids);
        // A run of unknown characters is one token.
        if (endOfUnknown !== ids.length) ids.push(unknownId);
        endOfUnknown = ids.length;
      };
      const begins = text !== "" && addsSpace && (after === undefined || legacy);
      const uniform = `${begins ? " " : ""}${text}`.replaceAll(" ", SPACE);
      // At odd places there are the tokens that are found.
      for (const [i, part] of uniform.split(whole).entries()) {
        if (i % 2 === 1) ids.push(idOf.get(part)!);
        else encodeSentencePiece(part, mergeable, scores, unknown, ids);
      }
    },
    bytes: bytes.of,
  };
}
