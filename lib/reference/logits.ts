/** Losses and divergences from rows of logits. */
import type { LogitComparison } from "../backend.ts";
import { expectTensor, f32Data, hostData, type Tensor } from "../tensor.ts";

/** Cross entropy of each row. @param logits [T, vocabSize] f32. @param targets [T] i32. @returns [T] f64, nats. */
export function nll(logits: Tensor, targets: Tensor): Float64Array<ArrayBuffer> {
  const { rows, width, target } = rowsAndTargets(logits, targets);
  const values = f32Data(logits);
  return Float64Array.from({ length: rows }, (_, row) => {
    const line = values.subarray(row * width, (row + 1) * width);
    return summarise(line).logSum - line[target(row)]!;
  });
}

/** @param base [T, vocabSize] f32. @param other [T, vocabSize] f32. @param targets [T] i32. */
export function compareLogits(base: Tensor, other: Tensor, targets: Tensor): LogitComparison {
  const { rows, width, target } = rowsAndTargets(base, targets);
  expectTensor("other", other, "f32", base.shape);
  const p = f32Data(base), q = f32Data(other);
  const result = {
    nll: new Float64Array(rows),
    baseNll: new Float64Array(rows),
    kl: new Float64Array(rows),
    agree: new Uint8Array(rows),
  };
  for (let row = 0; row < rows; row++) {
    const a = p.subarray(row * width, (row + 1) * width), b = q.subarray(row * width, (row + 1) * width);
    const first = summarise(a), second = summarise(b);
    let kl = 0;
    for (let i = 0; i < width; i++) {
      const logP = a[i]! - first.logSum, share = Math.exp(logP);
      if (share !== 0) kl += share * (logP - (b[i]! - second.logSum)); // tokens that both rule out add nothing
    }
    result.kl[row] = kl;
    result.nll[row] = second.logSum - b[target(row)]!;
    result.baseNll[row] = first.logSum - a[target(row)]!;
    result.agree[row] = first.best === second.best && first.best >= 0 ? 1 : 0;
  }
  return result;
}

function rowsAndTargets(logits: Tensor, targets: Tensor) {
  const [rows, width] = expectTensor("logits", logits, "f32", [-1, -1]);
  expectTensor("targets", targets, "i32", [rows]);
  const ids = hostData(targets);
  const target = (row: number) => {
    const id = ids[row]!;
    if (id < 0 || id >= width) throw new RangeError(`Cannot score target ${id}: expected 0 to ${width - 1}`);
    return id;
  };
  return { rows, width, target };
}

/** Index of the largest entry (the lowest on ties, -1 where one is NaN), and log of the sum of exponentials. */
function summarise(line: Float32Array): { best: number; logSum: number } {
  let best = 0;
  for (let i = 1; i < line.length; i++) if (line[i]! > line[best]!) best = i;
  let sum = 0;
  for (const value of line) sum += Math.exp(value - line[best]!);
  return { best: line.some(Number.isNaN) ? -1 : best, logSum: line[best]! + Math.log(sum) };
}
