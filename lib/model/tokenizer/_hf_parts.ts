/**
 * Rewrites parts of a tokenizer.json so that the library handles them as the package tokenizers does. The library's
 * white space is JavaScript's, its words are ASCII's, and it has only two of the ways to split at matches.
 */
import { GPT2, isolate, ONE_DIGIT } from "./_byte_level.ts";
import { escapePattern, SPACE } from "./_vocabulary.ts";

export interface Part {
  readonly type?: string;
  readonly [key: string]: unknown;
}

/** Throws an error that names a part by its key; `says` contains the found and the expected value. */
type Refuse = (key: string, says: string) => Error;

const PUNCTUATION = String.raw`\p{P}\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e`;
const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d`;
/** Signs that BertNormalizer puts spaces round. */
const HAN = String.raw`[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}` +
  String.raw`\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]`;

const sequence = (pretokenizers: readonly Part[]): Part => ({ type: "Sequence", pretokenizers });
const inTurn = (normalizers: readonly Part[]): Part => ({ type: "Sequence", normalizers });
/** Removes matches, and leaves the text between them. */
const removed = (Regex: string): Part => ({
  ...{ type: "Split", pattern: { Regex }, behavior: "Removed", invert: false },
});
/** Leaves only the matches. */
const kept = (Regex: string): Part => ({ ...removed(Regex), invert: true });
const replace = (Regex: string, content: string): Part => ({ type: "Replace", pattern: { Regex }, content });

/**
 * Rewrites the part that splits a text into words.
 *
 * @throws What `refuse` gives, for a part that is not supported.
 */
export function writeOutPreTokenizer(part: Part, refuse: Refuse): Part {
  const fail = (found: string, expected: string) =>
    refuse("pre_tokenizer", `found ${part.type} with ${found}, expected ${expected}`);
  switch (part.type) {
    case "Sequence": {
      const parts = (part["pretokenizers"] ?? []) as readonly Part[];
      if (
        parts.slice(1).some(({ type, prepend_scheme: scheme }) => type === "Metaspace" && scheme === "first")
      ) {
        throw refuse(
          "pre_tokenizer",
          'found Metaspace of the scheme "first" behind another part, expected it first',
        );
      }
      return sequence(parts.map((inner) => writeOutPreTokenizer(inner, refuse)));
    }
    case "BertPreTokenizer":
      return kept(String.raw`[^\s${PUNCTUATION}]+|[${PUNCTUATION}]`);
    case "Whitespace":
      return kept(String.raw`[${WORD}]+|[^${WORD}\s]+`);
    case "WhitespaceSplit":
      return kept(String.raw`\S+`);
    case "Punctuation":
      return writeOutSplit(`[${PUNCTUATION}]`, part["behavior"] ?? "Isolated", false, fail);
    // Digits of every script, not only 0 to 9.
    case "Digits":
      return isolate(part["individual_digits"] === true ? ONE_DIGIT : `${ONE_DIGIT}+`);
    case "FixedLength": {
      const { length } = part;
      if (!Number.isSafeInteger(length) || (length as number) < 1) {
        throw fail(`the length ${JSON.stringify(length)}`, "a whole number of at least 1");
      }
      return isolate(String.raw`[\s\S]{1,${length}}`);
    }
    // Words begin with the space before them unless the file sets `split` to false; the library does not split the
    // text.
    case "Metaspace":
      return part["split"] === false ? part : sequence([part, isolate(`${SPACE}?[^${SPACE}]+|${SPACE}`)]);
    case "ByteLevel": {
      if (part["use_regex"] === false) return part;
      const space: Part[] = part["add_prefix_space"] === true ? [replace(String.raw`\A[^ ]`, " $&")] : [];
      return sequence([...space, isolate(GPT2), { ...part, add_prefix_space: false, use_regex: false }]);
    }
    case "Split": {
      const { Regex, String: text } = part["pattern"] as {
        readonly Regex?: string;
        readonly String?: string;
      };
      const pattern = Regex ?? escapePattern(text!);
      // A match that depends on a single character cannot overlap with itself.
      const isSign = Regex === undefined && [...text!].length === 1;
      return writeOutSplit(pattern, part["behavior"], part["invert"] === true, fail, isSign);
    }
  }
  return part;
}

/** @param isSign Whether a match is one certain character. */
function writeOutSplit(
  pattern: string,
  behavior: unknown,
  invert: boolean,
  fail: (found: string, expected: string) => Error,
  isSign = false,
): Part {
  const own = `(?:${pattern})`;
  switch (behavior) {
    case "Isolated":
      return isolate(pattern);
    case "Removed":
      if (invert) return kept(pattern);
      // JavaScript's split keeps captured parts.
      if (!/(^|[^\\])(\\\\)*\((?!\?[:=!>]|\?<[=!]|\?i:)/.test(pattern)) return removed(pattern);
      throw fail(`the pattern ${JSON.stringify(pattern)} that captures`, "(?:…) in its place");
    case "Contiguous":
      if (!invert) return isolate(`${own}+`);
      break;
    case "MergedWithPrevious":
      if (!invert && isSign) return removed(`(?<=${own})`);
      break;
    case "MergedWithNext":
      if (!invert && isSign) return removed(`(?=${own})`);
  }
  const found = `the behavior ${JSON.stringify(behavior)}${invert ? ", inverted" : ""}`;
  throw fail(found, "Isolated or Removed, or Contiguous or one character's merge that is not inverted");
}

/** A text as it stands in a replacement, where JavaScript has a meaning for "$". */
const literal = (content: unknown) => String(content ?? "").replaceAll("$", "$$$$");

/** Rewrites the part that normalizes a text. */
export function writeOutNormalizer(part: Part): Part {
  switch (part.type) {
    case "Sequence":
      return inTurn(((part["normalizers"] ?? []) as readonly Part[]).map(writeOutNormalizer));
    case "Strip":
      return inTurn([
        ...(part["strip_left"] === true ? [replace(String.raw`\A\s+`, "")] : []),
        ...(part["strip_right"] === true ? [replace(String.raw`(?<!\s)\s+\z`, "")] : []),
      ]);
    // Letter by letter: JavaScript has another sigma at the end of a word.
    case "Lowercase":
      return inTurn([replace("\u03a3", "\u03c3"), part]);
    case "Replace":
      return { ...part, content: literal(part["content"]) };
    // An empty text stays so.
    case "Prepend":
      return replace(String.raw`\A[\s\S]`, `${literal(part["prepend"])}$&`);
    case "BertNormalizer": {
      const cleans = { ...part, handle_chinese_chars: false, strip_accents: false, lowercase: false };
      return inTurn([
        cleans,
        ...(part["handle_chinese_chars"] === true ? [replace(HAN, " $& ")] : []),
        ...(part["strip_accents"] ?? part["lowercase"]
          ? [{ type: "NFD" }, replace(String.raw`\p{Mn}`, "")]
          : []),
        ...(part["lowercase"] === true ? [writeOutNormalizer({ type: "Lowercase" })] : []),
      ]);
    }
  }
  return part;
}
