/** Probabilities of logits. @param row [n] f64. @returns [n] f64, of sum 1. */
export function softmax(row: Float64Array): Float64Array {
  const top = row.reduce((a, b) => Math.max(a, b), -Infinity), shares = row.map((x) => Math.exp(x - top));
  const total = shares.reduce((a, b) => a + b, 0);
  return shares.map((x) => x / total);
}
