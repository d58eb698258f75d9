/** SentencePiece's unigram model: of all ways to cut a text into pieces the one whose scores sum to most. */
import { TYPE } from "./_vocabulary.ts";

/** Cost of a character that is no piece, beyond that of the worst piece. */
const UNKNOWN_PENALTY = 10;
/** float32's, where the scores' range begins. */
const LARGEST = 3.4028234663852886e38;

/**
 * Makes a cutter: ids of a normalised text's pieces, with the place where each ends; -1 is one character that no piece
 * covers. Sums are float32, the earlier of equals counts: as SentencePiece has it, so that ties fall as its own (0.2.3).
 *
 * @param idOf Normal and user-defined pieces; types and scores are those of all ids.
 */
export function createUnigram(
  idOf: ReadonlyMap<string, number>,
  types: readonly number[],
  scores: readonly number[],
): (text: string) => { readonly id: number; readonly end: number }[] {
  const scoreOf = new Map<string, { id: number; score: number }>();
  let least = LARGEST, longest = 1;
  for (const [piece, id] of idOf) {
    // A user-defined piece costs nothing: no normal piece is as likely (scores are logarithms), so that it is taken
    // whole.
    const isUser = types[id] === TYPE.userDefined, score = isUser ? 0 : scores[id]!;
    if (!isUser) least = Math.min(least, score);
    scoreOf.set(piece, { id, score });
    longest = Math.max(longest, piece.length);
  }
  const unknown = Math.fround(least - UNKNOWN_PENALTY);
  return (text) => {
    const size = text.length, best = new Float32Array(size + 1);
    const from = new Int32Array(size + 1).fill(-1), ids = new Int32Array(size + 1);
    const offer = (begin: number, end: number, id: number, score: number) => {
      const sum = Math.fround(score + best[begin]!);
      if (from[end] !== -1 && !(sum > best[end]!)) return;
      best[end] = sum;
      from[end] = begin;
      ids[end] = id;
    };
    for (let begin = 0; begin < size;) {
      const step = text.codePointAt(begin)! > 0xffff ? 2 : 1, last = Math.min(size, begin + longest);
      let isCovered = false;
      for (let end = begin + 1; end <= last; end++) {
        const piece = scoreOf.get(text.slice(begin, end));
        if (piece === undefined) continue;
        offer(begin, end, piece.id, piece.score);
        isCovered ||= end === begin + step;
      }
      if (!isCovered) offer(begin, begin + step, -1, unknown);
      begin += step;
    }
    const path: { id: number; end: number }[] = [];
    for (let end = size; end > 0; end = from[end]!) path.push({ id: ids[end]!, end });
    return path.reverse();
  };
}
