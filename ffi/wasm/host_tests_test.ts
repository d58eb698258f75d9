/** The tests of the CPU library's ops, models, rules and arguments, with the kernels as WebAssembly. */
import { withVariables } from "../../lib/testing.ts";

const OPS = [
  "embedding",
  "filtered_attention",
  "kv_filter_scan",
  "kv_key_step",
  "linear",
  "machine",
  "nll",
  "rms_norm",
];

await withVariables({ TOKENFILTER_TEST_DEVICE: "wasm" }, async () => {
  for (const op of [...OPS, "rope", "rows", "swiglu"]) await import(`../../kernels/${op}/${op}_test.ts`);
  for (
    const name of [
      "tiny_golden",
      "checkpoint_golden",
      "model",
      "model_rules",
      "op_arguments",
      "native_backend",
    ]
  ) {
    await import(`../${name}_test.ts`);
  }
  for (const name of ["retrieval", "head_probe", "run/whole_heads"]) {
    await import(`../../lib/model/${name}_test.ts`);
  }
  await import("../../lib/methods/eviction/adakv_test.ts");
});
