/**
 * The normalisation of a SentencePiece model: rules in a trie ("precompiled_charsmap"), and the treatment of spaces.
 */
import { SPACE } from "./_vocabulary.ts";

/** How text is made uniform before it is cut into pieces. */
export interface Normalizer {
  /** Rules, compiled; undefined: characters stay as they are. */
  readonly charsmap: Charsmap | undefined;
  /** Whether spaces at the ends go, and of several one stays. */
  readonly removesSpaces: boolean;
}

/**
 * The rules: a double-array trie of UTF-8 prefixes (darts-clone's), whose values are places in a list of texts that end in
 * a zero byte.
 */
export class Charsmap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;

  /** @throws {RangeError} If the bytes are no such rules. */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const size = bytes.length > 4 ? view.getUint32(0, true) : 0;
    if (size === 0 || size % 4 !== 0 || size >= bytes.length - 4) {
      throw new RangeError(`found a trie of ${size} bytes in ${bytes.length}`);
    }
    this.#units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#texts = bytes.subarray(4 + size);
  }

  /** The longest rule for the bytes from `at` on: its length, and the replacement; undefined where none applies. */
  longest(bytes: Uint8Array, at: number): { readonly taken: number; readonly text: Uint8Array } | undefined {
    const units = this.#units;
    let node = offsetOf(units[0]!), place = -1, taken = 0;
    for (let i = at; i < bytes.length; i++) {
      node ^= bytes[i]!;
      const unit = units[node];
      // A unit of another label, or past the end: no rule is longer.
      if (unit === undefined || (unit & 0x800000ff) !== bytes[i]) break;
      node ^= offsetOf(unit);
      if ((unit >>> 8 & 1) === 0) continue;
      const leaf = units[node];
      if (leaf === undefined) break;
      place = leaf & 0x7fffffff;
      taken = i + 1 - at;
    }
    if (taken === 0 || place >= this.#texts.length) return undefined;
    const end = this.#texts.indexOf(0, place);
    return { taken, text: this.#texts.subarray(place, end < 0 ? undefined : end) };
  }
}

/** Where the children of a trie's unit begin. */
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);

const utf8 = new TextEncoder(), decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes of the character that begins with a byte. */
const width = (byte: number): number => byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;

/**
 * Makes a text uniform; its spaces become "\u2581". `begins`: one is put before it. `whole` matches texts that stay as they
 * are, as {@linkcode matcherOf} makes it.
 */
export function normalize(
  text: string,
  { charsmap, removesSpaces }: Normalizer,
  begins: boolean,
  whole: RegExp | undefined,
): string {
  if (text === "") return "";
  let out = begins ? " " : "", afterSpace = removesSpaces;
  const add = (part: string) => {
    const kept = afterSpace ? part.replace(/^ +/, "") : part;
    if (kept !== "") afterSpace = removesSpaces && kept.endsWith(" ");
    out += kept;
  };
  for (const [i, part] of partsOf(text, whole).entries()) {
    if (i % 2 === 1) add(part);
    else if (charsmap === undefined) {
      out = removesSpaces ? (add(part.replaceAll(/ +/g, " ")), out) : out + part;
    } else {
      const bytes = utf8.encode(part);
      for (let at = 0; at < bytes.length;) {
        const rule = charsmap.longest(bytes, at), taken = rule?.taken ?? width(bytes[at]!);
        add(decoder.decode(rule?.text ?? bytes.subarray(at, at + taken)));
        at += taken;
      }
    }
  }
  const escaped = out.replaceAll(" ", SPACE);
  return removesSpaces ? escaped.replace(/\u2581+$/, "") : escaped;
}

/** A pattern that matches only the given text. */
export const escapePattern = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** A pattern that matches any of some texts, the longest first; undefined where there are none. */
export function matcherOf(texts: readonly string[]): RegExp | undefined {
  if (texts.length === 0) return undefined;
  const escaped = texts.toSorted((a, b) => b.length - a.length).map(escapePattern);
  return new RegExp(`(${escaped.join("|")})`, "u");
}

/** A text cut from left to right: the parts between matches, and at odd places the matches. */
export function partsOf(text: string, whole: RegExp | undefined): string[] {
  return whole === undefined ? [text] : text.split(whole);
}
