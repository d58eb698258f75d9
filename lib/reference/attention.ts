/** Filtered attention, written as its definition reads. */
import { type AttentionArgs, headsOfKeys, LEAST_OTHERS } from "../backend.ts";
import { expectTensor, f32Data, hostData, type HostTensor } from "../tensor.ts";
import { dequantize } from "./dequantize.ts";

/**
 * See {@linkcode Backend.attention}, `shares` and `changes` too. Scores, softmax and sums in float64.
 *
 * @throws {RangeError} If heads, rows or positions do not fit each other.
 */
export function attention(args: AttentionArgs): void {
  const [rows, numHeads, headDim] = args.queries.shape as [number, number, number];
  const numKvHeads = args.keys.shape[1]!, { kvPlaces } = args, allKvHeads = kvPlaces?.of ?? numKvHeads;
  if (numHeads % allKvHeads !== 0) {
    throw new RangeError(
      `Cannot share ${allKvHeads} KV heads among ${numHeads} query heads: expected a multiple`,
    );
  }
  if (kvPlaces !== undefined) expectTensor("kvPlaces", kvPlaces.places, "i32", [numKvHeads]);
  const kvTypes = ["f32", "f16", "bf16"] as const;
  expectTensor("queries", args.queries, "f32", [-1, -1, -1]);
  expectTensor("queryPositions", args.queryPositions, "i32", [rows]);
  for (const name of ["keys", "values", "recentKeys", "recentValues"] as const) {
    expectTensor(name, args[name], kvTypes, [-1, numKvHeads, headDim]);
  }
  expectTensor("out", args.out, "f32", [rows, numHeads, headDim]);
  const { keyEnds, windows, sinks = 0, shares, shareDistance = 0, changes } = args;
  if (keyEnds !== undefined) expectTensor("keyEnds", keyEnds, "i32", [-1]);
  if (windows !== undefined) expectTensor("windows", windows, "i32", [rows]);
  if (shares !== undefined) expectTensor("shares", shares, "f64", [-1, -1]);
  if (changes !== undefined) {
    expectTensor("changes", changes.out, "f64", shares?.shape ?? [0, 0]);
    expectTensor("headWeights", changes.headWeights, "f32", [numHeads]);
  }
  const room = Math.min(args.keys.shape[0]!, keyEnds?.shape[0] ?? Infinity);
  if (args.numKeys > room || args.numRecent > args.recentKeys.shape[0]!) {
    throw new RangeError(`Cannot attend to ${args.numKeys} + ${args.numRecent} keys: found fewer rows`);
  }

  const width = numKvHeads * headDim;
  const parts = [
    part(args.keys, args.values, args.keyPositions, args.numKeys, width),
    part(args.recentKeys, args.recentValues, args.recentPositions, args.numRecent, width),
  ];
  const queries = f32Data(args.queries), out = f32Data(args.out), positions = hostData(args.queryPositions);
  const ends = keyEnds && hostData(keyEnds), reach = windows && hostData(windows);
  const sums = new Float64Array(headDim);
  const given = shares && hostData(shares).fill(0), last = shares?.shape[1] ?? 0, from = args.numKeys - last;
  const firstGiving = rows - (shares?.shape[0] ?? 0);
  if (firstGiving < 0) {
    throw new RangeError(`Cannot give shares of ${shares!.shape[0]} queries: found ${rows}`);
  }
  const changed = changes && hostData(changes.out).fill(0),
    headWeights = changes && f32Data(changes.headWeights);
  const heads = headsOfKeys(args, kvPlaces && hostData(kvPlaces.places));
  for (let row = 0; row < rows; row++) {
    const position = positions[row]!, window = reach?.[row] ?? -1;
    const seesCached = (j: number, distance: number) =>
      position < (ends?.[j] ?? Infinity) &&
      (window < 0 || distance <= window || position - distance < sinks);
    // [part, row] of every key that this query attends to
    const seen: [number, number][] = [];
    parts.forEach((source, which) => {
      for (let j = 0; j < source.count; j++) {
        const distance = position - source.positions[j]!;
        if (distance >= 0 && (which === 0 ? seesCached(j, distance) : distance <= args.recent)) {
          seen.push([which, j]);
        }
      }
    });
    for (const [kvHead, head] of heads) {
      const q = (row * numHeads + head) * headDim, kv = kvHead * headDim;
      const scores = seen.map(([which, j]) => {
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += queries[q + i]! * parts[which]!.keys[j * width + kv + i]!;
        return dot * args.scale;
      });
      const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      sums.fill(0);
      seen.forEach(([which, j], i) => {
        const weight = Math.exp(scores[i]! - top);
        total += weight;
        for (let c = 0; c < headDim; c++) sums[c]! += weight * parts[which]!.values[j * width + kv + c]!;
      });
      for (let c = 0; c < headDim; c++) out[q + c] = total === 0 ? 0 : sums[c]! / total;
      if (given === undefined || row < firstGiving) continue;
      seen.forEach(([which, j], i) => {
        if (which !== 0 || j < from || position - parts[0]!.positions[j]! < shareDistance) return;
        const weight = Math.exp(scores[i]! - top) / total, at = (row - firstGiving) * last + j - from;
        given[at]! += weight / heads.length;
        if (changed === undefined) return;
        let distance = 0;
        for (let c = 0; c < headDim; c++) {
          distance += (parts[which]!.values[j * width + kv + c]! - sums[c]! / total) ** 2;
        }
        changed[at]! += headWeights![head]! * (weight / Math.max(1 - weight, LEAST_OTHERS)) ** 2 * distance;
      });
    }
  }
}

function part(keys: unknown, values: unknown, positions: unknown, count: number, width: number) {
  return {
    count,
    keys: dequantize(keys as HostTensor, 0, count * width),
    values: dequantize(values as HostTensor, 0, count * width),
    positions: hostData(positions as HostTensor),
  };
}
