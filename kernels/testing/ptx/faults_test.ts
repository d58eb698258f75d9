/** Kernels broken on purpose, one instruction at a time: the interpreter names each fault by its kind and its source line. */
import { assert, assertMatch } from "@std/assert";
import { fileURLToPath } from "node:url";
import { testOnPtx } from "../../../ffi/cuda/testing.ts";

const ARCH = Deno.env.get("TKF_PTX_ARCH"), LIMIT_MS = 300_000;

/** A fault: `TKF_PTX_BREAK`, the test that runs the kernel, and what is told of it. */
interface Planted {
  readonly name: string;
  readonly break: string;
  readonly test: string;
  readonly filter: string;
  readonly told: RegExp;
  readonly arch?: string;
}
const LINEAR = { test: "linear/tests/linear_test.ts", filter: "small cases" };
const STEP = { test: "kv_filter_step/kv_filter_step_cuda_test.ts", filter: "small cases" };
const WGMMA = {
  test: "filtered_attention/prefill_cuda_test.ts",
  filter: "every sequence of a batch",
  arch: "90a",
};

const PLANTED: readonly Planted[] = [];
for (const planted of PLANTED) {
  testOnPtx(
    `the interpreter tells of ${planted.name}`,
    async () => {
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["test", "-A", "--no-check", "--filter", planted.filter],
          fileURLToPath(new URL(`../../${planted.test}`, import.meta.url)),
        ],
        env: { TKF_PTX_BREAK: planted.break, TOKENFILTER_TEST_SLOW: "", NO_COLOR: "1" },
        stdin: "null",
        signal: AbortSignal.timeout(LIMIT_MS),
      }).output();
      const told = new TextDecoder().decode(stderr);
      assertMatch(told, /^ptx: broken: /m);
      assert(!success);
      assertMatch(told, planted.told);
    },
    planted.arch !== undefined && planted.arch !== ARCH && `needs TKF_PTX_ARCH=${planted.arch}`,
  );
}
