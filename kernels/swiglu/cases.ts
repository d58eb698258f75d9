/** The cases of `swiglu` and `geglu`: gate and up [rows, cols]; `scale` multiplies the gate. */
import type { Calls } from "../testing/fuzz/draw.ts";
interface SwigluCase {
  readonly rows: number;
  readonly cols: number;
  readonly scale: number;
}

export const SWIGLU_CASES: readonly SwigluCase[] = [[0, 5], [1, 1], [1, 31], [3, 33], [5, 127], [13, 989]]
  .flatMap(([rows, cols]) => [0, 1e-6, 1, 30, 1e4].map((scale) => ({ rows: rows!, cols: cols!, scale })));

const silu = (x: number, slope: number) => x / (1 + Math.exp(-slope));
const geluSlope = (x: number) => Math.sqrt(8 / Math.PI) * (x + 0.044715 * x ** 3);
/** The activation of a gate, and the argument of the sigmoid that it is multiplied by. */
export const ACTIVATIONS = {
  swiglu: { activate: (x: number) => silu(x, x), slope: (x: number) => x },
  geglu: { activate: (x: number) => silu(x, geluSlope(x)), slope: geluSlope },
};
/** The ops. */
export const GATES = ["swiglu", "geglu"] as const;

export const CALLS: Calls = {
  tkf_gate_apply(d) {
    const count = d.size(300), gate = d.floats(count);
    return {
      gate,
      up: d.floats(count),
      out: d.once(4) ? gate : d.room("f32", count),
      count,
      kind: d.pick([1, 2]),
    };
  },
};
