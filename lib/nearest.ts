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

/**
 * The name of `known` (at least one) that takes the fewest edits from `name`, upper and lower case and `-` and `_`
 * aside; the first of equals.
 *
 * @example
 * ```ts
 * console.assert(nearest("gama", ["alpha", "gamma"]) === "gamma");
 * ```
 */
export function nearest(name: string, known: readonly string[]): string {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_]/g, "").slice(0, 64);
  let best = known[0]!, least = Infinity;
  for (const candidate of known) {
    const edits = distance(plain(name), plain(candidate));
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best;
}
