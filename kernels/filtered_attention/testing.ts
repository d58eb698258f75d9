/** What tests of attention share. */

/** Largest errors allowed against the reference, for values around 1 and inputs that the type holds exactly. */
export const BAR = { f32: 1e-5, f16: 1e-3, bf16: 8e-3 } as const;

/** Largest difference of two results; where NaN is expected, NaN must be found, and nowhere else. */
export function difference(found: Float32Array, expected: Float32Array): number {
  let worst = found.length === expected.length ? 0 : Infinity;
  for (let i = 0; i < found.length; i++) {
    if (Number.isNaN(found[i]!) && Number.isNaN(expected[i]!)) continue;
    const d = Math.abs(found[i]! - expected[i]!);
    worst = d <= worst ? worst : Number.isNaN(d) ? Infinity : d;
  }
  return worst;
}
