/** The cases of `nll` and `compareLogits`: logits [rows, vocabSize]; `scale` multiplies them. */
import type { Calls } from "../testing/fuzz/draw.ts";
export interface LogitsCase {
  readonly rows: number;
  readonly vocabSize: number;
  readonly scale: number;
}

export const LOGITS_CASES: readonly LogitsCase[] = [
  ...[1, 2, 31, 32, 33, 127, 989, 1023, 1024, 1025, 4099]
    .flatMap((vocabSize) => [0, 0.1, 10].map((scale) => ({ rows: 5, vocabSize, scale }))),
  { rows: 0, vocabSize: 7, scale: 1 },
  { rows: 33, vocabSize: 49152, scale: 5 },
];

export const CALLS: Calls = {
  tkf_nll_compute(d) {
    const rows = d.size(5), vocab = d.size(d.pick([9, 2100]), 1), logits = d.floats(rows * vocab);
    return { logits, targets: d.indices(rows, vocab), nll: new Float64Array(rows), rows, vocab };
  },
  tkf_logits_compare(d) {
    const rows = d.size(5), vocab = d.size(d.pick([9, 2100]), 1), column = () => new Float64Array(rows);
    const inputs = {
      base: d.floats(rows * vocab),
      other: d.floats(rows * vocab),
      targets: d.indices(rows, vocab),
    };
    const outputs = { nll: column(), base_nll: column(), kl: column(), agree: new Uint8Array(rows) };
    return { ...inputs, ...outputs, rows, vocab };
  },
  tkf_logits_argmax(d) {
    const rows = d.size(5), vocab = d.size(d.pick([9, 2100]), 1);
    return { logits: d.floats(rows * vocab), ids: new Int32Array(rows), rows, vocab };
  },
};
