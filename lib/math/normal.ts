/**
 * The probability that a standard normal variable lies below x, to 13 digits of itself. A Taylor series about 0, and where
 * that would lose digits Laplace's continued fraction of the tail.
 */
export function normalCdf(x: number): number {
  const z = Math.abs(x), density = Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
  if (z < 3) {
    let term = x, sum = x;
    for (let i = 3; Math.abs(term) > 1e-17; i += 2) sum += term *= x * x / i;
    return 0.5 + sum * density;
  }
  let fraction = z;
  for (let i = 60; i > 0; i--) fraction = z + i / fraction;
  return x > 0 ? 1 - density / fraction : density / fraction;
}
