/**
 * SentencePiece BPE as llama.cpp does it. Among all neighbouring symbols whose concatenation is in the vocabulary, it
 * merges the pair of highest score, the leftmost of equals, until none is left. Symbols that are no piece become bytes.
 *
 * `@huggingface/tokenizers` ranks merges in a list. Equal scores, and the several ways to make one piece ("a"+"bc",
 * "ab"+"c"), are then tried in list order instead of left to right. Some ids would differ.
 */
import { SPACE, TYPE, type Vocabulary } from "./_vocabulary.ts";

/** Candidate merges: a binary heap, highest score first, leftmost of equals. */
class MergeHeap {
  readonly #scores: number[] = [];
  readonly #lefts: number[] = [];
  readonly #sizes: number[] = [];
  /** Left symbol of the merge that {@linkcode pop} took. */
  left = 0;
  /** Length of the piece that it makes, in UTF-16 units. */
  size = 0;

  push(score: number, left: number, size: number): void {
    let at = this.#scores.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(score, left, parent)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, score, left, size);
  }

  /** Takes the first candidate into `left` and `size`; false when there is none. */
  pop(): boolean {
    const last = this.#scores.length - 1;
    if (last < 0) return false;
    this.left = this.#lefts[0]!;
    this.size = this.#sizes[0]!;
    const score = this.#scores.pop()!, left = this.#lefts.pop()!, size = this.#sizes.pop()!;
    if (last === 0) return true;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#before(this.#scores[child + 1]!, this.#lefts[child + 1]!, child)) child++;
      if (this.#before(score, left, child)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, score, left, size);
    return true;
  }

  #before(score: number, left: number, other: number): boolean {
    const otherScore = this.#scores[other]!;
    return score > otherScore || (score === otherScore && left < this.#lefts[other]!);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#scores[from]!, this.#lefts[from]!, this.#sizes[from]!);
  }

  #put(at: number, score: number, left: number, size: number): void {
    this.#scores[at] = score;
    this.#lefts[at] = left;
    this.#sizes[at] = size;
  }
}

/**
 * Cuts text, in which spaces are already "\u2581", into pieces, and appends their ids.
 *
 * @param scores Score of every id: the higher, the earlier it is merged.
 * @param unknown Appends the ids for a symbol that is no piece.
 */
export function encodeSentencePiece(
  text: string,
  idOf: ReadonlyMap<string, number>,
  scores: readonly number[],
  unknown: (symbol: string, ids: number[]) => void,
  ids: number[],
): void {
  // Symbol i is text.slice(starts[i], starts[i] + sizes[i]); size 0: merged into an earlier one.
  const starts: number[] = [];
  for (let at = 0; at < text.length; at += text.codePointAt(at)! > 0xffff ? 2 : 1) starts.push(at);
  const count = starts.length;
  const sizes = starts.map((start, i) => (starts[i + 1] ?? text.length) - start);
  const next = starts.map((_, i) => i + 1), prev = starts.map((_, i) => i - 1);

  const heap = new MergeHeap();
  const propose = (left: number, right: number) => {
    if (left < 0 || right >= count) return;
    const size = sizes[left]! + sizes[right]!;
    const id = idOf.get(text.slice(starts[left]!, starts[left]! + size));
    if (id !== undefined) heap.push(scores[id]!, left, size);
  };
  for (let i = 0; i + 1 < count; i++) propose(i, i + 1);

  while (heap.pop()) {
    const left = heap.left, right = next[left]!;
    // The candidate is stale when either side has been merged since.
    if (sizes[left] === 0 || right >= count || sizes[left]! + sizes[right]! !== heap.size) continue;
    sizes[left] = heap.size;
    sizes[right] = 0;
    const after = next[left] = next[right]!;
    if (after < count) prev[after] = left;
    propose(prev[left]!, left);
    propose(left, after);
  }

  for (let i = 0; i < count; i = next[i]!) {
    const symbol = text.slice(starts[i], starts[i]! + sizes[i]!);
    const id = idOf.get(symbol);
    if (id !== undefined) ids.push(id);
    else unknown(symbol, ids);
  }
}

/**
 * Spells symbols that are no piece as bytes, where a vocabulary has a token for each. `spell` appends the bytes of a
 * symbol, `of` gives the bytes of a normal or byte token.
 */
export function bytesOf({ pieces, types, idOf }: Vocabulary, fail: (says: string) => Error, isNeeded = true) {
  const utf8 = new TextEncoder(), byteOf = new Map<number, number>();
  const byteIds = Array.from({ length: isNeeded ? 256 : 0 }, (_, byte) => {
    const piece = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const id = idOf.get(piece);
    if (id === undefined || types[id] !== TYPE.byte) {
      throw fail(`found no byte token "${piece}", expected one for each byte`);
    }
    byteOf.set(id, byte);
    return id;
  });
  return {
    spell(symbol: string, ids: number[]): void {
      for (const byte of utf8.encode(symbol)) ids.push(byteIds[byte]!);
    },
    of(id: number): Uint8Array<ArrayBuffer> {
      const byte = byteOf.get(id);
      return byte !== undefined ? Uint8Array.of(byte) : utf8.encode(pieces[id]!.replaceAll(SPACE, " "));
    },
  };
}
