/** Byte-level BPE (`gpt2` in GGUF): a tokenizer.json object out of a file's token and merge lists, and its alphabet. */
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";

/** GPT-2's own pattern; several names below share it. */
export const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const ENDINGS = String.raw`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`;
const REST = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
/** Llama 3's pattern, with the given number of digits per word. */
const llama3Pattern = (digits: string) =>
  String.raw`${ENDINGS}|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|${REST}`;
/** GPT-4o's pattern, which splits words before capitals, with digits per word and endings that belong to it. */
function gpt4oPattern(digits: string, endings: string): string {
  const upper = String.raw`(?:(?=\p{L})[^a-z])`, lower = String.raw`(?:(?=\p{L})[^A-Z])`;
  const first = String.raw`[^\r\n\p{L}\p{N}]?`;
  return `${first}${upper}*${lower}+${endings}|${first}${upper}+${lower}*${endings}|` +
    String.raw`${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${REST}`;
}
/** A number of any kind and script. */
export const ONE_DIGIT = String.raw`\p{N}`;
const THREE_DIGITS = String.raw`\p{N}{1,3}`;

/** How a `tokenizer.ggml.pre` cuts text into words before any merge. */
interface PreTokenizer {
  /** Patterns, applied one after the other; each isolates its matches within the remaining text. */
  readonly patterns: readonly string[];
  /** Whether a word that is in the vocabulary is taken whole, without looking at merges. */
  readonly ignoreMerges: boolean;
  /** Whether a BOS comes first if a file does not specify it. Default: no. */
  readonly addsBos?: boolean;
}

const gpt2: PreTokenizer = { patterns: [GPT2], ignoreMerges: false };
const smollm: PreTokenizer = { patterns: [String.raw`\p{N}`, GPT2], ignoreMerges: false };
const llama3: PreTokenizer = { patterns: [llama3Pattern(THREE_DIGITS)], ignoreMerges: true, addsBos: true };
const dbrx: PreTokenizer = { patterns: [llama3Pattern(THREE_DIGITS)], ignoreMerges: false };
const qwen2: PreTokenizer = { patterns: [llama3Pattern(ONE_DIGIT)], ignoreMerges: false };
const gpt4o: PreTokenizer = { patterns: [gpt4oPattern(THREE_DIGITS, `${ENDINGS}?`)], ignoreMerges: false };

/** Every `tokenizer.ggml.pre` that is known, with llama.cpp's patterns. */
export const PRE_TOKENIZERS: { readonly [pre: string]: PreTokenizer } = {
  "default": {
    patterns: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, "[0-9][0-9][0-9]"],
    ignoreMerges: false,
  },
  "command-r": smollm,
  "deepseek-r1-qwen": qwen2,
  "dbrx": dbrx,
  "falcon3": llama3,
  "gpt-2": gpt2,
  "gpt-4o": gpt4o,
  "llama-bpe": llama3,
  "llama-v3": llama3,
  "llama3": llama3,
  "llama4": gpt4o,
  "olmo": gpt2,
  "pixtral": llama3,
  "qwen2": qwen2,
  "refact": smollm,
  // SmolLM3's files.
  "smaug-bpe": dbrx,
  "smollm": smollm,
  "starcoder": smollm,
  "tekken": { patterns: [gpt4oPattern(ONE_DIGIT, "")], ignoreMerges: true, addsBos: true },
};

/** Part of a tokenizer.json that makes each match of a pattern a word. */
export const isolate = (pattern: string) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});

/** Part of a tokenizer.json that writes bytes as {@linkcode BYTE_CHARACTERS}. */
export const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false, use_regex: false };

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
    pre_tokenizer: { type: "Sequence", pretokenizers: [...pre.patterns.map(isolate), BYTE_LEVEL] },
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

const BYTE_OF = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** The bytes of a piece of a byte-level vocabulary; of a piece with other characters, its UTF-8. */
export function bytesOfPiece(piece: string): Uint8Array<ArrayBuffer> {
  const bytes = Array.from(piece, (character) => BYTE_OF.get(character));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : new TextEncoder().encode(piece);
}
