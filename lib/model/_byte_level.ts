/** Byte-level BPE (`gpt2` in GGUF): a tokenizer.json object out of a file's token and merge lists, and its alphabet. */
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";

// GPT-2's own pattern; several names below share it.
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const LLAMA3 = String
  .raw`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|` +
  String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** How a `tokenizer.ggml.pre` cuts text into words before any merge. */
export interface PreTokenizer {
  /** Patterns, applied one after the other; each isolates its matches within what the one before left. */
  readonly patterns: readonly string[];
  /** Whether a word that is in the vocabulary is taken whole, without looking at merges. */
  readonly ignoreMerges: boolean;
}

const gpt2: PreTokenizer = { patterns: [GPT2], ignoreMerges: false };
const smollm: PreTokenizer = { patterns: [String.raw`\p{N}`, GPT2], ignoreMerges: false };
const llama3: PreTokenizer = { patterns: [LLAMA3], ignoreMerges: true };

/** Every `tokenizer.ggml.pre` that is known, with llama.cpp's patterns. */
export const PRE_TOKENIZERS: { readonly [pre: string]: PreTokenizer } = {
  "default": {
    patterns: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, "[0-9][0-9][0-9]"],
    ignoreMerges: false,
  },
  "gpt-2": gpt2,
  "llama-bpe": llama3,
  "smollm": smollm,
  "starcoder": smollm,
};

const isolate = (pattern: string) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});

/** Builds the library's tokenizer: words, then merges in their order; no special tokens. */
export function createByteLevelBpe(
  idOf: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
  pre: PreTokenizer,
): (text: string) => number[] {
  const vocab: Record<string, number> = Object.create(null);
  for (const [piece, id] of idOf) vocab[piece] = id;
  const tokenizer = new HubTokenizer({
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...pre.patterns.map(isolate),
        { type: "ByteLevel", add_prefix_space: false, use_regex: false },
      ],
    },
    model: { type: "BPE", vocab, merges, unk_token: null, ignore_merges: pre.ignoreMerges },
    post_processor: null,
    decoder: null,
  }, {});
  return (text) => tokenizer.encode(text, { add_special_tokens: false }).ids;
}

/** The character that stands for each byte in a byte-level vocabulary: printable bytes are themselves. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let others = 0;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCharCode(printable(byte) ? byte : 256 + others++),
  );
})();
