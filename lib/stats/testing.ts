/** Numbers for tests of statistics. */

/** Independent normal values by Box and Muller on a small linear congruential generator. */
export function normals(count: number, seed: number): Float64Array<ArrayBuffer> {
  let state = seed;
  const uniform = () => ((state = (state * 1103515245 + 12345) % 2147483648) + 1) / 2147483649;
  return Float64Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
