/**
 * Quantile with linear interpolation between order statistics (numpy's default, type 7).
 *
 * @param sorted At least one number, ascending; the first `size` count.
 * @param q In [0, 1].
 */
export function quantile(sorted: ArrayLike<number>, q: number, size: number = sorted.length): number {
  const position = q * (size - 1);
  const below = Math.floor(position), t = position - below;
  const a = sorted[below]!, b = sorted[Math.min(below + 1, size - 1)]!;
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

/**
 * The value that has a place in ascending order, 0-based, by Hoare's selection.
 *
 * @param values [n] f64, none of them NaN; they are reordered.
 */
export function valueAtRank(values: Float64Array, rank: number): number {
  let from = 0, to = values.length - 1;
  while (from < to) {
    const pivot = values[(from + to) >> 1]!;
    let left = from, right = to;
    while (left <= right) {
      while (values[left]! < pivot) left++;
      while (values[right]! > pivot) right--;
      if (left > right) break;
      const value = values[left]!;
      values[left++] = values[right]!;
      values[right--] = value;
    }
    if (rank <= right) to = right;
    else if (rank >= left) from = left;
    else break;
  }
  return values[rank]!;
}
