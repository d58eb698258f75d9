/** Inputs of a case of `nll` and `compareLogits`, the results of the reference, and the tolerance of an execution. */
import { assert } from "@std/assert";
import type { Backend, LogitComparison } from "../../lib/backend.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor } from "../testing/inputs.ts";
import type { LogitsCase } from "./cases.ts";

/** A case's logits and targets, and the reference's results. */
export interface PreparedLogits {
  readonly what: string;
  readonly base: HostTensor;
  readonly other: HostTensor;
  readonly targets: HostTensor;
  readonly expected: LogitComparison;
  /** Size that the error of a loss is relative to: a sum of e^x in float32, and so its logarithm, is exact to about 1e-7. */
  readonly size: number;
  /**
   * Size that the error of each row's divergence is relative to. Terms p - q of the mean of log P - log Q are as large
   * as the difference of the rows. For rows that nearly agree, the logits exceed the divergence by far.
   */
  readonly gaps: readonly number[];
}

/** Makes a case; where `seed` is even, the rows nearly agree, as those of a mildly filtered model do. */
export function prepare({ rows, vocabSize, scale }: LogitsCase, seed: number): PreparedLogits {
  const next = numbers(seed);
  const base = randomTensor([rows, vocabSize], () => scale * next());
  const other = randomTensor([rows, vocabSize], () => scale * next());
  const p = f32Data(base), q = f32Data(other);
  if (seed % 2 === 0) q.forEach((x, i) => q[i] = p[i]! + x * 1e-3);
  const ids = Int32Array.from({ length: rows }, () => (next() + 1) / 2 * vocabSize);
  const targets = hostTensor("i32", [rows], ids);
  const gaps = Array.from({ length: rows }, (_, row) => {
    let gap = 0;
    for (let i = row * vocabSize; i < (row + 1) * vocabSize; i++) {
      gap = Math.max(gap, Math.abs(p[i]! - q[i]!));
    }
    return 1 + gap;
  });
  return {
    what: `[${rows}, ${vocabSize}] times ${scale}`,
    base,
    other,
    targets,
    expected: new ReferenceBackend().compareLogits(base, other, targets),
    size: 1 + scale,
    gaps,
  };
}

/**
 * Fails unless a backend's losses, divergences and agreement are the reference's.
 *
 * @param who The backend, in a failure.
 * @param on Brings a tensor to the backend.
 */
export function checkLogits(
  who: string,
  backend: Backend,
  c: PreparedLogits,
  on: (tensor: Tensor) => Tensor,
): void {
  const { expected } = c, size = () => c.size, what = `${who}, ${c.what}`;
  const other = on(c.other), targets = on(c.targets);
  assertNear(backend.nll(other, targets), expected.nll, 5e-7, what, size);
  const found = backend.compareLogits(on(c.base), other, targets);
  assertNear(found.nll, expected.nll, 5e-7, what, size);
  assertNear(found.baseNll, expected.baseNll, 5e-7, what, size);
  assertNear(found.kl, expected.kl, 5e-7, what, (row) => c.gaps[row]!);
  assert(found.kl.every((kl) => kl >= 0), `${what}: found a negative divergence`);
  assertNear(found.agree, expected.agree, 0, what);
}
