/** Inputs of the golden numbers, as experiments/tools/verify/make_golden.py makes them. */

/** How to make them. */
export interface Dataset {
  T: number;
  H: number;
  d: number;
  noise: number;
  drift: number;
  seed: number;
  zeroKeys: number[];
  zeroValues: number[];
  hiddenSize?: number;
  numHeads?: number;
}

/** The inputs of a dataset, made as make_golden.py describes. */
export function makeInputs(
  { T, H, d, noise, drift, seed, zeroKeys, zeroValues, hiddenSize = 0, numHeads = 0 }: Dataset,
) {
  let s = seed;
  const next = () => (s = (Math.imul(1664525, s) + 1013904223) >>> 0) / 2 ** 32;
  const normal = () => next() + next() + next() + next() - 2;
  const size = H * d;
  const normals = (count: number) => Float64Array.from({ length: count }, normal);
  const base = normals(2 * size), slope = normals(2 * size);
  const kv = [new Float32Array(T * size), new Float32Array(T * size)];
  for (let t = 0; t < T; t++) {
    kv.forEach((out, side) => {
      const level = noise * (0.25 + next());
      for (let i = 0; i < size; i++) {
        const at = side * size + i;
        out[t * size + i] = base[at]! + slope[at]! * (drift * t / T) + level * normal();
      }
    });
  }
  for (const t of zeroKeys) kv[0]!.fill(0, t * size, (t + 1) * size);
  for (const t of zeroValues) kv[1]!.fill(0, t * size, (t + 1) * size);
  const mix = normals(hiddenSize);
  const residual = new Float32Array(T * hiddenSize), normed = new Float32Array(T * hiddenSize);
  const queries = new Float32Array(T * numHeads * d), output = new Float64Array(T);
  for (let t = 0; t < T && hiddenSize > 0; t++) {
    const scale = 0.5 + 2 * next(), row = t * hiddenSize;
    for (let a = 0; a < hiddenSize; a++) residual[row + a] = scale * (mix[a]! + normal());
    for (let a = 0; a < hiddenSize; a++) normed[row + a] = residual[row + a]! / scale + 0.25 * normal();
    for (let a = 0; a < numHeads * d; a++) queries[t * numHeads * d + a] = normal();
    output[t] = (0.1 + Math.abs(normed[row]!)) * (0.5 + next());
  }
  return { keys: kv[0]!, values: kv[1]!, residual, normed, queries, output };
}
