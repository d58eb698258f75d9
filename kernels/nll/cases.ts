/** The cases of `nll` and `compareLogits`: logits [rows, vocabSize]; `scale` multiplies them. */
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
