/** Several products of one x in a call, and a gate over two: equal to one after the other, and to the reference. */
import { assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../../lib/errors.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../../lib/tensor.ts";
import { GATES } from "../../swiglu/cases.ts";
import { WEIGHTS } from "../../testing/fuzz/draw.ts";
import { assertNear } from "../../testing/inputs.ts";
import { decisionsOf, testCases, testInEveryWay, testOnDevice, type Way } from "../../testing/ways.ts";
import { PRODUCTS_CASES, type ProductsCase } from "../cases.ts";
import { barOf, prepare } from "./testing.ts";

const reference = new ReferenceBackend();

/** A case's inputs, and the comparison of a way with the reference's results and with its own of one product. */
function checkOf({ dtypes, ns, rows, k, gate }: ProductsCase, seed: number): (way: Way) => void {
  const parts = dtypes.map((dtype, i) => prepare({ dtype, rows, n: ns[i]!, k }, seed));
  const weights = dtypes.map((dtype, i) => prepare({ dtype, rows, n: ns[i]!, k }, seed + i).weight);
  const x = parts[0]?.x ?? hostTensor("f32", [rows, k], new Float32Array(rows * k));
  const ofReference = weights.map((weight, i) => ({ weight, out: reference.alloc("f32", [rows, ns[i]!]) }));
  if (gate === undefined) reference.linears(x, ofReference);
  else reference.gatedLinear(x, ofReference[0]!, ofReference[1]!, gate);
  return (way) => {
    const { name, backend, on, empty, values } = way,
      what = `${name}, ${rows} x ${k} by ${ns} ${dtypes} ${gate}`;
    const products = () => weights.map((weight, i) => ({ weight: on(weight), out: empty(rows, ns[i]!) }));
    const xOn = on(x), together = products(), apart = products();
    for (const { weight, out } of apart) backend.linear(xOn, weight, out);
    if (gate === undefined) {
      backend.linears(xOn, together);
    } else {
      backend.gatedLinear(xOn, together[0]!, together[1]!, gate);
      backend[gate](apart[0]!.out, apart[1]!.out, apart[0]!.out);
    }
    const results = gate === undefined ? together.length : 1;
    for (let i = 0; i < results; i++) {
      const found = values(together[i]!.out), expected = f32Data(ofReference[i]!.out);
      assertEquals(found, values(apart[i]!.out), what);
      const size = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      assertNear(found, expected, 20 * barOf(way, { dtype: dtypes[i]!, rows, k }), what, () => size);
    }
  };
}

testCases(
  "linears() and gatedLinear() equal the reference and linear() on all cases",
  PRODUCTS_CASES,
  [7 * (11 * 3 + 5), 2 * 2 * 3],
  (c, i) => checkOf(c, i + 1),
  ({ rows, dtypes, ns }) => [4, 12].includes(rows) && ns[0] === 35 && ["bf16", "q5_1"].includes(dtypes[0]!),
);

testOnDevice(
  "linears() and gatedLinear() equal the reference by weights of every type, few rows of each number",
  (way) => {
    const k = 2304; // all warps of a block have a share
    for (const [i, dtype] of WEIGHTS.entries()) {
      for (const rows of [1, 2, 4, 5]) { // each number of rows that a kernel is compiled for, and tensor cores
        checkOf({ dtypes: [dtype, dtype, dtype], ns: [9, 3, 6], rows, k }, i + 1)(way);
        for (const gate of GATES) {
          checkOf({ dtypes: [dtype, dtype], ns: [11, 11], rows, k, gate }, i + 1)(way);
        }
      }
    }
  },
);

testInEveryWay("linears() and gatedLinear() refuse what does not go together", (ways) => {
  for (const { backend, empty } of ways) {
    const x = empty(2, 8), one = { weight: empty(3, 8), out: empty(2, 3) };
    assertThrows(
      () => backend.linears(x, [one, one, one, one]),
      RangeError,
      "found 4 products, expected 3 at most",
    );
    assertThrows(
      () => backend.linears(x, [one, { weight: empty(3, 4), out: one.out }]),
      RangeError,
      "expected [-1,8]",
    );
    const other = { weight: empty(4, 8), out: empty(2, 4) };
    assertThrows(() => backend.gatedLinear(x, one, other, "swiglu"), RangeError, '"up.out"');
  }
});

testInEveryWay(
  "tkf_linear_apply refuses a gate that is unknown, or of products that it does not go with",
  (ways) => {
    for (const { backend, empty } of ways) {
      const context =
        (backend as unknown as { readonly context: { call(name: string, args: object): void } }).context;
      const product = (n: number) => ({ weight: empty(n, 8), out: empty(2, n), n, dtype: "f32" });
      const args = { x: empty(2, 8), kept: null, kept_count: null, rows: 2, k: 8, same_x: 0 };
      const refuse = (gate: number, ns: readonly number[], message: string) => {
        const [first, second, third = null] = ns.map(product);
        const call = () => context.call("tkf_linear_apply", { ...args, first, second, third, gate });
        assertThrows(call, KernelError, message);
      };
      for (const gate of [-1, 3]) refuse(gate, [2, 2], "found gate = ");
      refuse(1, [2, 3], "expected two of as many columns");
      refuse(2, [2, 2, 2], "expected two of as many columns");
    }
  },
);

testOnDevice("linears() multiplies the kept slots alone, a gate goes with all rows", (device) => {
  const { backend, on, empty, values } = device, batch = 5, k = 64, ns = [3, 9, 4];
  for (const dtype of ["bf16", "q4_0"] as const) {
    const parts = ns.map((n, i) => prepare({ dtype, rows: batch, n, k }, 7 + i)), x = on(parts[0]!.x);
    const products = () => parts.map(({ weight }, i) => ({ weight: on(weight), out: empty(batch, ns[i]!) }));
    for (const slots of [[], [1, 4]]) {
      const only = decisionsOf(device, batch, slots), together = products(), apart = products();
      backend.linears(x, together, only);
      for (const [i, { weight, out }] of apart.entries()) {
        backend.linear(x, weight, out, only);
        assertEquals(values(together[i]!.out), values(out), `${dtype} ${slots}`);
      }
    }
  }
});
