/** Which tokens may come next in a text of a grammar. */
import type { Sampler } from "../../../../lib/model/generate/sampler.ts";
import type { Tokenizer } from "../../../../lib/model/tokenizer/tokenizer.ts";
import type { Grammar } from "./grammar.ts";

/** The bytes of all tokens, ordered: neighbours share beginnings, which are looked at once. */
class Vocabulary {
  readonly ids: Int32Array<ArrayBuffer>;
  readonly bytes: readonly Uint8Array[];
  /** How many bytes each of the ordered ones shares with the one before it. */
  readonly shared: Uint16Array<ArrayBuffer>;
  constructor({ vocabSize, bytes }: { readonly vocabSize: number; bytes(id: number): Uint8Array }) {
    const all = Array.from({ length: vocabSize }, (_, id) => ({ id, bytes: bytes(id) }));
    const ordered = all.filter(({ bytes }) => bytes.length > 0).sort((a, b) => compare(a.bytes, b.bytes));
    this.ids = Int32Array.from(ordered, ({ id }) => id);
    this.bytes = ordered.map(({ bytes }) => bytes);
    this.shared = Uint16Array.from(
      this.bytes,
      (own, i) => i === 0 ? 0 : sharedBytes(own, this.bytes[i - 1]!),
    );
  }
}

function sharedBytes(a: Uint8Array, b: Uint8Array): number {
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  return i;
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const at = sharedBytes(a, b);
  return (a[at] ?? -1) - (b[at] ?? -1);
}

const vocabularies = new WeakMap<object, Vocabulary>();

/** Most states of a grammar whose tokens are kept. */
const MOST_MASKS = 256;

/** The tokens that may come at each state of a grammar, kept for those that texts come to. */
export class TokenMasks {
  readonly grammar: Grammar;
  readonly #vocabulary: Vocabulary;
  readonly #known = new Map<Grammar, Int32Array>();

  constructor(grammar: Grammar, tokenizer: Pick<Tokenizer, "vocabSize" | "bytes">) {
    const bytes = (id: number) => tokenizer.bytes(id), { vocabSize } = tokenizer;
    const known = vocabularies.get(tokenizer) ?? new Vocabulary({ vocabSize, bytes });
    vocabularies.set(tokenizer, known);
    this.grammar = grammar;
    this.#vocabulary = known;
  }

  /** Ids of the tokens that may come, ascending, [n] i32; those without a text may not. */
  at(state: Grammar): Int32Array {
    const known = this.#known.get(state);
    if (known !== undefined) return known;
    const { ids, bytes, shared } = this.#vocabulary, found = new Int32Array(ids.length);
    let count = 0;
    const states: Grammar[] = [state]; // behind each byte of the token before that could come
    for (let i = 0; i < ids.length; i++) {
      if (states.length > shared[i]! + 1) states.length = shared[i]! + 1;
      else if (states.length <= shared[i]!) continue; // it begins with bytes that could not come
      const own = bytes[i]!;
      while (states.length <= own.length) {
        const next = states.at(-1)!.step(own[states.length - 1]!);
        if (next === undefined) break;
        states.push(next);
      }
      if (states.length > own.length) found[count++] = ids[i]!;
    }
    const allowed = found.slice(0, count).sort();
    if (this.#known.size >= MOST_MASKS) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(state, allowed);
    return allowed;
  }
}

/** Added to the number of a choice that is drawn a second time: each draw has a random number of its own. */
const SECOND_DRAW = 2 ** 40;

/** One text of a grammar, token by token. */
export class Constraint {
  readonly #masks: TokenMasks;
  readonly #tokenizer: Pick<Tokenizer, "bytes">;
  #state: Grammar;

  constructor(masks: TokenMasks, tokenizer: Pick<Tokenizer, "bytes">) {
    this.#masks = masks;
    this.#tokenizer = tokenizer;
    this.#state = masks.grammar;
  }

  /** Whether the text is whole: nothing may come. */
  get isWhole(): boolean {
    return this.#state.mayEnd &&
      Array.from({ length: 256 }, (_, byte) => this.#state.step(byte)).every((next) => next === undefined);
  }

  /**
   * The next token, as the sampler draws it among those that may come: drawn among all, and once more if it may not come.
   *
   * @param endIds Tokens that end the text, where it may.
   * @throws {Error} If none may come: the vocabulary lacks a byte that must.
   */
  next(sampler: Sampler, logits: Float32Array, step: number, endIds: ReadonlySet<number>): number {
    let id = sampler.next(logits, step);
    if (!this.#allows(id, endIds)) id = sampler.next(logits, step + SECOND_DRAW, this.#allowed(endIds));
    if (!endIds.has(id)) this.#state = this.#behind(id)!;
    return id;
  }

  #allows(id: number, endIds: ReadonlySet<number>): boolean {
    return endIds.has(id) ? this.#state.mayEnd : this.#behind(id) !== undefined;
  }

  #behind(id: number): Grammar | undefined {
    const bytes = this.#tokenizer.bytes(id);
    if (bytes.length === 0) return undefined;
    return bytes.reduce<Grammar | undefined>((state, byte) => state?.step(byte), this.#state);
  }

  /** Ids of the tokens that may come, ascending. */
  #allowed(endIds: ReadonlySet<number>): Int32Array {
    const allowed = this.#masks.at(this.#state);
    const all = this.#state.mayEnd ? Int32Array.from([...allowed, ...endIds]).sort() : allowed;
    if (all.length > 0) return all;
    throw new Error("Cannot go on: found no token that the grammar allows here");
  }
}
