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
const NLL = { test: "nll/nll_test.ts", filter: "on all cases" };
const WGMMA = {
  test: "filtered_attention/prefill_cuda_test.ts",
  filter: "every sequence of a batch",
  arch: "90a",
};

const PLANTED: readonly Planted[] = [
  {
    name: "a barrier that is gone",
    break: "nll_kernel;bar\\.sync;membar.cta;0",
    told: /^ptx: (warp-race|race|unwritten): cuda\/reduce\.cuh:\d+ .* ld\.shared/m,
    ...NLL,
  },
  {
    name: "a wrong mask of a shuffle",
    break: "nll_kernel;(mov\\.\\w+ %r\\d+), -1;$1, 255;0",
    told: /^ptx: mask: \S+ \(in cuda\/reduce\.cuh:\d+\) shfl\.sync/m,
    ...NLL,
  },
  {
    name: "a store to global memory one word off",
    break: "nll_kernel;st\\.global\\.f64 \\[(%rd\\d+)\\];st.global.f64 [$1+4];0",
    told: /^ptx: (misaligned|outside): nll\/nll\.cu:\d+ st\.global\.f64/m,
    ...NLL,
  },
  {
    name: "a store to shared memory one word off",
    break: "nll_kernel;st\\.shared\\.f64 \\[(%r\\d+)\\];st.shared.f64 [$1+8];0",
    told: /^ptx: (unwritten|race|outside): cuda\/reduce\.cuh:\d+ /m,
    ...NLL,
  },
  {
    name: "a relaxed atomic operation",
    break: "filter_step;atom\\.acq_rel\\.gpu;atom.relaxed.gpu;0",
    told: /^ptx: block-race: \S+ \(in kv_filter_step\/kv_filter_step\.cu:\d+\) /m,
    test: "kv_filter_step/kv_filter_step_cuda_test.ts",
    filter: "without a filter",
  },
  {
    name: "a removed fence",
    break: "prefill_wgmma_kernelI13__nv_bfloat16Li64;fence\\.proxy\\.async\\S*;membar.cta;1",
    told: /^ptx: proxy: .*cuda\/prefill_wgmma\.cu:\d+/m,
    ...WGMMA,
  },
  {
    name: "a dropped arrival",
    break: "prefill_wgmma_kernelI13__nv_bfloat16Li64;mbarrier\\.arrive\\.shared;membar.shared;0",
    told: /^ptx: deadlock: .*cuda\/prefill_wgmma\.cu:\d+/m,
    ...WGMMA,
    filter: "many key tiles",
  },
];
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
