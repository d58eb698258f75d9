/** Vocabularies whose token ids are known from llama.cpp: those of two models, and the same with some keys changed. */
import { type GgufFile, type GgufScalar, parseGguf } from "../formats/gguf.ts";
import { buildGguf, type Entry } from "./gguf_builder.ts";

const FILES = {
  tiny: new URL("../tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url),
  smollm: new URL("./smollm2_vocab.gguf.gz", import.meta.url),
};
const PREFIX = "tokenizer.ggml.";
const NORMAL = 1, USER_DEFINED = 4;

/** How a vocabulary is made of a file's. */
interface Change {
  readonly from: keyof typeof FILES;
  /** Values of keys under `tokenizer.ggml.`. */
  readonly keys?: { readonly [key: string]: string | boolean };
  /** Pieces that become user-defined. */
  readonly userDefined?: readonly string[];
  /** Merges that come first, and whose pieces are put at the end of the vocabulary. */
  readonly merges?: readonly string[];
  /** Lists under `tokenizer.ggml.`, each with its change. */
  readonly lists?: { readonly [key: string]: (list: readonly GgufScalar[]) => readonly GgufScalar[] };
}

/** Merges across places where some families part words and others do not: digits, capitals, apostrophes, slashes. */
const ACROSS = ["1 0", "2 3", "8 9", "5 6", "1 2", "12 3", "123 4", "x D", "e '", "\u010a /"];

const CHANGES = {
  "tiny": { from: "tiny" },
  "tiny-no-space-prefix": { from: "tiny", keys: { add_space_prefix: false } },
  // "</s>" ends a text for llama.cpp whatever its type; "est" and "st" overlap.
  "tiny-user-defined": { from: "tiny", userDefined: ["<unk>", "</s>", "st", "est", "ing"] },
  // The order of merges is then that of only their places.
  "tiny-equal-scores": { from: "tiny", lists: { scores: (list) => list.map(() => -1) } },
  "smollm": { from: "smollm" },
  "smollm-user-defined": {
    from: "smollm",
    userDefined: ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "he", "the", "!!"],
  },
  "default": { from: "smollm", keys: { pre: "default" } },
  "gpt-2": { from: "smollm", keys: { pre: "gpt-2" } },
  "llama-bpe": { from: "smollm", keys: { pre: "llama-bpe" } },
  // Words of the vocabulary that no merges lead to are taken whole.
  "llama-bpe-fewer-merges": {
    from: "smollm",
    keys: { pre: "llama-bpe" },
    lists: { merges: (list) => list.filter((_, i) => i % 7 !== 3) },
  },
  "starcoder": { from: "smollm", keys: { pre: "starcoder" } },
  "command-r": { from: "smollm", keys: { pre: "command-r" }, merges: ACROSS },
  "dbrx": { from: "smollm", keys: { pre: "dbrx" }, merges: ACROSS },
  "gpt-4o": { from: "smollm", keys: { pre: "gpt-4o" }, merges: ACROSS },
  "olmo": { from: "smollm", keys: { pre: "olmo" }, merges: ACROSS },
  "pixtral": { from: "smollm", keys: { pre: "pixtral" } },
  "smaug-bpe": { from: "smollm", keys: { pre: "smaug-bpe" }, merges: ACROSS },
  "qwen2": { from: "smollm", keys: { pre: "qwen2" }, merges: ACROSS },
  "tekken": { from: "smollm", keys: { pre: "tekken" }, merges: ACROSS },
} satisfies { readonly [name: string]: Change };

/** Name of a vocabulary. */
export type VocabularyName = keyof typeof CHANGES;
/** All of them. */
export const VOCABULARY_NAMES = Object.keys(CHANGES) as VocabularyName[];

/** The part of a model's metadata that its vocabulary needs. */
export function vocabularyEntries(gguf: GgufFile): Entry[] {
  return [...gguf.metadata]
    .filter(([key]) => /^(general\.architecture|llama\..*|tokenizer\.ggml\..*)$/.test(key))
    .map(([key, { type, elementType, value }]) =>
      [key, elementType === undefined ? type : [elementType], value] as Entry
    );
}

/** Files that were read. */
const read: { [from in keyof typeof FILES]?: Promise<GgufFile> } = {};

async function readFile(from: keyof typeof FILES): Promise<GgufFile> {
  const file = await Deno.open(FILES[from]);
  const stream = from === "smollm"
    ? file.readable.pipeThrough(new DecompressionStream("gzip"))
    : file.readable;
  return parseGguf(new Uint8Array(await new Response(stream).arrayBuffer()), from);
}

/** A vocabulary as a GGUF file without tensors. */
export async function vocabularyBytes(name: VocabularyName): Promise<Uint8Array<ArrayBuffer>> {
  const { from, keys = {}, userDefined = [], lists = {}, merges = [] }: Change = CHANGES[name];
  const gguf = await (read[from] ??= readFile(from));
  const pieces = gguf.strings(`${PREFIX}tokens`);
  const missing = userDefined.find((piece) => !pieces.includes(piece));
  if (missing !== undefined) {
    throw new RangeError(`Cannot make "${missing}" user-defined: found no such piece in ${from}`);
  }
  const fresh = merges.map((merge) => merge.replace(" ", "")).filter((piece) => !pieces.includes(piece));
  const changes = {
    tokens: (list: readonly GgufScalar[]) => [...list, ...fresh],
    merges: (list: readonly GgufScalar[]) => [...merges, ...list],
    ...lists,
    token_type: (types: readonly GgufScalar[]) => [
      ...types.map((type, id) => userDefined.includes(pieces[id]!) ? USER_DEFINED : type),
      ...fresh.map(() => NORMAL),
    ],
  };
  const entries = vocabularyEntries(gguf)
    .filter(([key]) => !Object.keys(keys).some((changed) => key === PREFIX + changed))
    .map(([key, type, value]) => {
      const change = Object.entries(changes).find(([changed]) => key === PREFIX + changed)?.[1];
      return (change === undefined
        ? [key, type, value]
        : [key, type, change(value as GgufScalar[])]) as Entry;
    });
  for (const [key, value] of Object.entries(keys)) {
    entries.push([PREFIX + key, typeof value === "boolean" ? "bool" : "string", value]);
  }
  return buildGguf({ entries });
}

/** A vocabulary, read. */
export async function readVocabulary(name: VocabularyName): Promise<GgufFile> {
  return parseGguf(await vocabularyBytes(name), name);
}
