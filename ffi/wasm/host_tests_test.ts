/** The tests of the CPU library's ops, models, rules and arguments, with the kernels as WebAssembly. */
import { RUNS_SLOW, withVariables } from "../../lib/testing.ts";

/** In the fast tier, `bits_test.ts` stands for the others. */
const FAST = [
  ..."embedding kv_filter_scan kv_key_step machine nll rms_norm rope rows swiglu".split(" ").map(testOf),
  ...["ffi/op_arguments", "ffi/native_backend", "lib/methods/eviction/adakv"],
];
const SLOW = [
  ...[testOf("filtered_attention"), "kernels/linear/tests/linear"],
  ...["ffi/tiny_golden", "ffi/checkpoint_golden", "ffi/model", "ffi/model_rules"],
  ...["lib/model/retrieval", "lib/model/head_probe", "lib/model/run/whole_heads"],
];

function testOf(op: string): string {
  return `kernels/${op}/${op}`;
}

/** Tests of devices run by themselves. */
const own = ["cpu", "wasm", ""].includes(Deno.env.get("TOKENFILTER_TEST_DEVICE") ?? "") ? FAST : [];

await withVariables({ TOKENFILTER_TEST_DEVICE: "wasm" }, async () => {
  for (const path of RUNS_SLOW && own.length > 0 ? [...own, ...SLOW] : own) {
    await import(`../../${path}_test.ts`);
  }
});
