/** The known name that a mistyped one is nearest to, for error messages. */

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function distance(a: string, b: string): number {
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = 0; i <= a.length; i++) table[i * width] = i;
  for (let j = 0; j <= b.length; j++) table[j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const at = i * width + j;
      const replaced = table[at - width - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      table[at] = Math.min(replaced, table[at - 1]! + 1, table[at - width]! + 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) table[at] = Math.min(table[at]!, table[at - 2 * width - 2]! + 1);
    }
  }
  return table[table.length - 1]!;
}

/** Edits that a name may be away for each of its letters, to be one that was meant. */
const EDITS_A_LETTER = 1 / 3;

/**
 * The name of `known` that takes the fewest edits from `name`, upper and lower case and `-` and `_` aside; the first of
 * equals. None where more than a third of the shorter one's letters, rounded up, would have to change.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_]/g, "").slice(0, 64);
  const own = plain(name);
  let best: string | undefined, least = Infinity;
  for (const candidate of known) {
    const other = plain(candidate), edits = distance(own, other);
    if (edits < least && edits <= Math.ceil(EDITS_A_LETTER * Math.min(own.length, other.length))) {
      [best, least] = [candidate, edits];
    }
  }
  return best;
}

/** The addition to an error that names the nearest known name, `, the nearest is "gamma"`; empty where none is near. */
export function sayNearest(name: string, known: readonly string[], before = ", ", dashes = ""): string {
  const found = nearest(name, known);
  return found === undefined ? "" : `${before}the nearest is "${dashes}${found}"`;
}
