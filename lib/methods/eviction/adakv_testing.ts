/** Random tensors with what kvpress's AdaKVPress drops of them, as make_adakv_golden.py writes them. */
import { assertEquals } from "@std/assert";
import { hostTensor } from "../../tensor.ts";
import { createPruner } from "../mod.ts";

export interface AdaCases {
  readonly T: number;
  readonly headDim: number;
  readonly cases: readonly {
    readonly numKvHeads: number;
    /** Query heads per KV head. */
    readonly group: number;
    readonly window: number;
    /** Tokens that go, mean over KV heads. */
    readonly evicted: number;
    /** Probabilities of the last `window` queries, mean over the group of each KV head, [numKvHeads][window][T]. */
    readonly attention: readonly (readonly (readonly number[])[])[];
    readonly dropped: readonly (readonly number[])[];
  }[];
}

/** Checks that each KV head drops what its press drops. */
export function expectAdaKV({ T, headDim, cases }: AdaCases): void {
  for (const { numKvHeads, group, window, evicted, attention, dropped } of cases) {
    const shape = { numLayers: 1, numHeads: numKvHeads * group, numKvHeads, headDim, hiddenSize: 24 };
    const { keySide } = createPruner("token-filtering", shape, {
      ...{ side: "key", kvFusion: "adakv", kvRatio: evicted / (T - window), tail: 1 },
      ...{ warmup: 0, recent: window },
    });
    const sequence = keySide!.start();
    const keys = hostTensor("f32", [T, numKvHeads, headDim], new Float32Array(T * numKvHeads * headDim));
    sequence.decide({ layer: 0, count: T, keys, values: keys }, 0);
    attention.forEach((given, unit) =>
      given.forEach((row, i) => {
        const t = T - window + i, keys = Int32Array.from({ length: t + 1 }, (_, j) => j);
        const rows = { attention: Float64Array.from(row.slice(0, t + 1)) };
        sequence.observe!(0, { positions: Int32Array.of(t), keys, rows, unit });
      })
    );
    assertEquals(sequence.judge!(0, T).dropByHead, dropped);
  }
}
