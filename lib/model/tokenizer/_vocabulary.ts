/** The parts of a tokenizer, whatever file it comes from. */

/** Token types, in GGUF and in SentencePiece's files. */
export const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Texts of tokens that llama.cpp takes for the end of a text or of a turn. */
const END_TEXTS = [
  String.raw`<\|(eot_id|eom_id|im_end|end|endoftext|end_of_text|return|call|flush|calls)\|>`,
  String.raw`</s>|<eos>|_?<EOT>|\[EOT\]|\[EOS\]|<end_of_turn>|<end_of_utterance>|<｜end▁of▁sentence｜>`,
];
export const END_TEXT = new RegExp(`^(${END_TEXTS.join("|")})$`);

/**
 * Texts that llama.cpp takes for control tokens (end of text or turn, fill-in-the-middle) even where a file calls them
 * user-defined, so that they stay plain characters.
 */
export const CONTROL_TEXT = new RegExp(
  "^(" + [
    ...END_TEXTS,
    String.raw`<\|?fim[-_](prefix|suffix|middle|pad|repo)\|?>|<｜fim▁(begin|hole|end)｜>`,
    String.raw`▁?<(PRE|SUF|MID|PAD|REPO)>|<\|(code_)?(prefix|suffix|middle)\|>`,
    String.raw`<\|repo_name\|>|<reponame>|<\|?file_sep\|?>`,
  ].join("|") + ")$",
);

/** How SentencePiece writes a space. */
export const SPACE = "\u2581";

export interface Vocabulary {
  readonly pieces: readonly string[];
  readonly types: readonly number[];
  readonly idOf: ReadonlyMap<string, number>;
}

/** @param fail Makes the error of a list, as GGUF names it. @throws It, if a piece is empty or twice, or a type unknown. */
export function createVocabulary(
  pieces: readonly string[],
  types: readonly number[],
  fail: (key: "tokens" | "token_type", says: string) => Error,
): Vocabulary {
  const idOf = new Map<string, number>(), known: readonly number[] = Object.values(TYPE);
  pieces.forEach((piece, id) => {
    if (piece === "" || idOf.has(piece)) {
      const found = piece === "" ? `token ${id} empty` : `"${piece}" as token ${idOf.get(piece)} and ${id}`;
      throw fail("tokens", `found ${found}, expected each token once`);
    }
    idOf.set(piece, id);
  });
  const odd = types.findIndex((type) => !known.includes(type));
  if (odd >= 0) throw fail("token_type", `found type ${types[odd]} of token ${odd}, expected 1 to 6`);
  return { pieces, types, idOf };
}

/** The operations that differ between the kinds of vocabulary. */
export interface Scheme {
  /** Appends the ids of a stretch of text; `after`: the token that it follows, undefined where it begins the text. */
  encode(text: string, after: number | undefined, ids: number[]): void;
  /** Like `encode`, special tokens in the text included, where it cuts those out by itself. */
  encodeSpecial?(text: string, ids: number[]): void;
  /** User-defined tokens that `encode` finds by itself; others are cut out before. */
  readonly finds?: ReadonlySet<string>;
  /** Gives back memory that only encoding needs; it is built again for the next text. */
  rest?(): void;
  /** The bytes that a normal or byte token stands for. */
  bytes(id: number): Uint8Array<ArrayBuffer>;
  /** Whether text begins with a space that is not there. */
  readonly addsSpace: boolean;
}

/** The contents of a file; the last five as `Tokenizer` has them. */
export interface TokenizerParts {
  readonly vocabulary: Vocabulary;
  readonly scheme: Scheme;
  readonly bosId: number | undefined;
  readonly addsBos: boolean;
  readonly eosId: number | undefined;
  readonly endIds: ReadonlySet<number>;
  readonly chatTemplate: string | undefined;
  /** Whether texts go through regular expressions of the file. */
  readonly hasPatterns?: boolean;
}

/** A text as a pattern that matches it: `RegExp.escape`, which Node 22 lacks. */
export const escapePattern = (text: string) => text.replaceAll(/[$()*+./?[\\\]^{|}]/g, "\\$&");

/** A pattern that matches any of some texts, the longest first; of none it matches nothing. */
export function matcherOf(texts: readonly string[]): RegExp {
  const escaped = texts.toSorted((a, b) => b.length - a.length).map(escapePattern);
  return new RegExp(`(${escaped.join("|") || "(?!)"})`, "u");
}
