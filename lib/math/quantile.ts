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
