/**
 * SentencePiece BPE as llama.cpp does it. Among all neighbouring symbols whose concatenation is in the vocabulary, it
 * merges the pair of highest score, the leftmost of equals, until none is left. Symbols that are no piece become bytes.
 *
 * `@huggingface/tokenizers` ranks merges in a list. Equal scores, and the several ways to make one piece ("a"+"bc",
 * "ab"+"c"), are then tried in list order instead of left to right. Some ids would differ.
 */
import { SPACE, TYPE, type Vocabulary } from "./_vocabulary.ts";

/** A candidate merge. */
interface Merge {
  readonly score: number;
  /** Its left symbol. */
  readonly left: number;
  /** Length of the piece that it makes, in UTF-16 units. */
  readonly size: number;
}

/** Highest score first, leftmost of equals. */
function comesBefore(a: Merge, b: Merge): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}

/** Candidate merges in a binary heap. */
class MergeHeap {
  readonly #merges: Merge[] = [];

  push(merge: Merge): void {
    let at = this.#merges.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!comesBefore(merge, this.#merges[parent]!)) break;
      this.#merges[at] = this.#merges[parent]!;
      at = parent;
    }
    this.#merges[at] = merge;
  }

  /** Takes the first candidate out, if there is one. */
  pop(): Merge | undefined {
    const merges = this.#merges, first = merges[0], last = merges.pop();
    if (last === undefined || merges.length === 0) return last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < merges.length && comesBefore(merges[child + 1]!, merges[child]!)) child++;
      if (child >= merges.length || comesBefore(last, merges[child]!)) break;
      merges[at] = merges[child]!;
      at = child;
    }
    merges[at] = last;
    return first;
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
    if (id !== undefined) heap.push({ score: scores[id]!, left, size });
  };
  for (let i = 0; i + 1 < count; i++) propose(i, i + 1);

  for (let merge = heap.pop(); merge !== undefined; merge = heap.pop()) {
    const { left, size } = merge, right = next[left]!;
    // The candidate is stale when either side has been merged since.
    if (sizes[left] === 0 || right >= count || sizes[left]! + sizes[right]! !== size) continue;
    sizes[left] = size;
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
 *
 * @throws What `fail` gives, if a byte has no token.
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
