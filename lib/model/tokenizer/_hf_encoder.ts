/** How a tokenizer.json encodes: tokens next to the vocabulary cut out as the package tokenizers does, the rest by the library. */
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { matcherOf } from "./_vocabulary.ts";
import type { AddedToken } from "./_tokenizer_settings.ts";

/** The parts of a tokenizer.json that turn a text into ids, those that the library takes otherwise written out. */
interface EncoderParts {
  readonly model: object;
  readonly normalizer: object | null;
  readonly pre_tokenizer: object | null;
}

/** Characters that a normalizer may make of any text, and more per character of it: NFKD makes 18 of one. */
const MOST_TEXT = 4096, MOST_GROWTH = 64;

export type Encode = (text: string) => number[];

const SPACE_BEFORE = /(?<!\p{White_Space})\p{White_Space}+$/u, SPACE_AFTER = /^\p{White_Space}+/u;

/** Cuts tokens out of a text, the leftmost first and of those the longest, with the white space that they take. */
function cutterOf(tokens: ReadonlyMap<string, AddedToken>): (text: string) => (string | AddedToken)[] {
  const find = new RegExp(matcherOf([...tokens.keys()]), "gu");
  return (text) => {
    const parts: (string | AddedToken)[] = [];
    let from = 0;
    for (const { 0: found, index } of text.matchAll(find)) {
      const token = tokens.get(found)!, end = index + found.length, between = text.slice(from, index);
      const before = token.lstrip === true ? between.replace(SPACE_BEFORE, "") : between;
      if (before !== "") parts.push(before);
      // A white space token that the token before it has consumed is still a token, unless it strips the space before
      // itself.
      const isTaken = token.lstrip === true && end <= from;
      from = end + (token.rstrip === true ? SPACE_AFTER.exec(text.slice(end))?.[0].length ?? 0 : 0);
      if (!isTaken) parts.push(token);
    }
    if (from < text.length) parts.push(text.slice(from));
    return parts;
  };
}

/**
 * Opens the library once, for any set of tokens next to the vocabulary; throws as it does where it lacks a part.
 *
 * @throws {RangeError} If normalizing leaves nothing of an added token.
 */
export function createEncoders(parts: EncoderParts): (tokens: readonly AddedToken[]) => Encode {
  const { normalizer, pre_tokenizer: words, model } = new HubTokenizer(
    { ...parts, added_tokens: [], decoder: null, post_processor: null },
    {},
  );
  const ids = model!.tokens_to_ids, unknown = model!.unk_token_id;
  const uniform = (text: string) => {
    const normalized: string = normalizer?.normalize(text) ?? text;
    if (normalized.length <= MOST_TEXT + MOST_GROWTH * text.length) return normalized;
    throw new RangeError(`found ${normalized.length} characters made of ${text.length}, expected fewer`);
  };
  return (tokens) => {
    // Some are looked for in the original text, others in the normalized one.
    const [plain, normalized] = [false, true].map((isNormalized) => {
      const some = tokens.filter((token) => (token.normalized ?? false) === isNormalized);
      const byText = new Map(some.map((t) => [isNormalized ? uniform(t.content) : t.content, t]));
      const empty = byText.get("");
      if (empty === undefined) return cutterOf(byText);
      throw new RangeError(`nothing is left of the added token ${JSON.stringify(empty.content)}`);
    });
    return (text) => {
      const out: number[] = [];
      plain!(text).forEach((section, i) => {
        if (typeof section !== "string") return void out.push(section.id);
        normalized!(uniform(section)).forEach((part, j) => {
          if (typeof part !== "string") return void out.push(part.id);
          const section_index = i + j; // 0: it begins the text
          for (const word of words?.pre_tokenize(part, { section_index }) ?? [part]) {
            // Word by word: the library would fuse unknown characters of several.
            for (const piece of model!([word])) {
              const id = ids.get(piece) ?? unknown;
              if (id !== undefined) out.push(id);
            }
          }
        });
      });
      return out;
    };
  };
}
