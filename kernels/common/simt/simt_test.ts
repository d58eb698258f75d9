import { assert, assertEquals, assertMatch } from "@std/assert";
import { findCompiler, run } from "../../../ffi/build/command.ts";

/** Cases of `selftest.cpp` by what they must do. */
const RIGHT = [
  "sum_block",
  "turn",
  "swap_lanes",
  "shuffles",
  "multiply_f16",
  "multiply_bf16",
  "copies",
  "fresh",
  "early_exit",
  "last_block",
  "indices",
  "floats",
  "capture",
  "refused",
  "products_f16",
  "products_bf16",
  "box",
  "to_and_fro",
  "named",
  "maps",
];
const WRONG = [
  "sum_block_without_barrier",
  "turn_with_one_barrier",
  "swap_lanes_without_sync",
  "multiply_without_wait",
  "multiply_wrong_registers",
  "missing_lane",
  "named_without_barrier",
  "kNoFence",
  "kNoWaitCopy",
  "kEarlyParity",
  "kNoCommit",
  "kNoWaitProduct",
  "kEarlyOverwrite",
  "kStep",
  "kLeading",
  "kRow",
];
const ENDS: { readonly [name: string]: RegExp } = {
  lonely_barrier: /33 at the barrier of selftest_ends\.h:\d+, 31 in __syncwarp with mask ffffffff/,
  two_barriers:
    /found thread 0 at the barrier of selftest_ends\.h:\d+ and thread 16 at that of selftest_ends\.h:\d+/,
  half_a_warp: /16 at the barrier of selftest_ends\.h:\d+, 16 in __shfl_sync with mask ffffffff/,
  foreign_mask: /__shfl_sync: found mask 00000001 without the lane that calls/,
  global_ldmatrix: /ldmatrix_x4: found .*, expected 16 bytes in shared memory/,
  odd_copy: /cp_async_16: found .*, expected 16-byte alignment/,
  kSecondWarp: /wgmma: found another product than other threads of the warpgroup have/,
  kLoneThread: /wgmma_commit: found a commit after \d products, and of other threads after \d/,
  kNoWgmmaFence: /wgmma: found no wgmma_fence since the last wgmma_wait/,
  kTouchedSums: /wgmma_wait: found accumulators changed before it/,
  kAbandoned: /wgmma: found a thread that ends while products are under way/,
  kUncollected: /load_box: found a block that ends while a copy is under way/,
  kFewBytes: /load_box: found 16 bytes more than barrier_expect has announced/,
  kManyBytes: /128 in barrier_wait of selftest_hopper\.h:\d+ \(phase 0 lacks 0 of 1 arrivals and 16 bytes\)/,
  kNoExpect: /128 in barrier_wait of .* \(phase 0 lacks 1 of 1 arrivals and -32768 bytes\)/,
  kTwice: /barrier_arrive: found an arrival after the end of phase 0, expected a wait for that phase first/,
  kMisaligned: /load_box: found shared address \d+, expected 128-byte alignment/,
  kBase: /wgmma: found descriptor \w+, expected patterns of 1024 bytes that begin at multiples of 1024/,
  kSwizzleMode: /wgmma: found swizzle mode 2, expected 1 \(128 bytes\): no other is modelled/,
  kBaseOffset: /wgmma: found base offset 1, expected 0: no other is modelled/,
  kNoStartFence: /load_box: found no fence_async since barrier_start/,
  kUnused: /wgmma: found descriptor 4000404000\w+, expected 0 in unused bits/,
  kPlainWrite: /load_box: found writes to its destination, expected fence_async and a barrier after them/,
  to_and_fro_without_wait: /barrier_arrive: found an arrival after the end of phase 0/,
  lonely_named: /32 at barrier 4 for 64 threads of selftest_hopper\.h:\d+, 32 at their end/,
  two_numbers: /found barrier 4 of (64 threads, and of 32|32 threads, and of 64) at selftest_hopper\.h:\d+/,
  overwritten_mbarrier: /barrier_arrive: found no mbarrier at \w+, expected one that barrier_start has made/,
  no_arrivals: /barrier_start: found 0 arrivals, expected 1 \.\. 2\^20 - 1/,
  half_a_group: /wgmma: found a block of 64 threads, expected warpgroups of 128/,
};
const SANITIZED: { readonly [name: string]: RegExp } = {
  past_shared: /heap-buffer-overflow/,
  past_fixed: /out of bounds|heap-buffer-overflow/,
  past_global: /heap-buffer-overflow/,
  deep_stack: /stack-overflow|SEGV/,
};
const ORDERS = [0, 1, 2, 3, 4];
const IGNORE = Deno.build.os !== "linux" && Deno.build.os !== "darwin";

async function compile(flags: readonly string[]): Promise<string> {
  const program = await Deno.makeTempFile({ prefix: "selftest-" });
  const { command, args } = await findCompiler();
  const parts = ["async", "launch", "machine", "runtime", "tensor_map", "warp", "wgmma"];
  const sources = ["selftest", ...parts].map((name) => `${name}.cpp`);
  const common = [
    "-DTKF_EMULATE",
    "-std=c++17",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-pthread",
  ];
  const { success, stderr } = await run(
    command,
    [...args, ...common, ...flags, "-x", "c++", ...sources, "-o", program],
    { cwd: new URL(".", import.meta.url) },
  );
  assert(success, stderr);
  assertEquals(stderr, "");
  return program;
}

/** Runs cases in one order. */
async function runCases(program: string, order: number, ...names: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [String(order), ...names],
    env: { ASAN_OPTIONS: "detect_leaks=0" },
  }).output();
  const decoder = new TextDecoder();
  return { code, results: decoder.decode(stdout), said: decoder.decode(stderr) };
}

/** The right kernels are right in every order, each of the wrong ones is wrong in one at least. */
async function checkResults(program: string): Promise<void> {
  const expected = RIGHT.map((name) => `${name} right\n`).join("");
  const wrong = new Set<string>();
  for (const order of ORDERS) {
    assertEquals(await runCases(program, order, ...RIGHT), { code: 0, results: expected, said: "" });
    const { code, results } = await runCases(program, order, ...WRONG);
    assertEquals(code, 0);
    for (const [, name] of results.matchAll(/^(\w+) wrong$/gm)) wrong.add(name!);
  }
  assertEquals([...wrong].sort(), [...WRONG].sort());
}

async function checkEnds(program: string): Promise<void> {
  for (const [name, message] of Object.entries(ENDS)) {
    for (const order of [0, 3]) {
      const { code, results, said } = await runCases(program, order, name);
      assert(code !== 0 && results === "", `${name}: ${code}`);
      assertMatch(said, message);
      const kernel = `(${name}|two_products<T>|\\(to_and_fro<kWait>\\))`;
      assertMatch(said, new RegExp(`^emulator: kernel ${kernel}, block \\(0, 0, 0\\), thread \\d+: `));
    }
  }
}

Deno.test({
  name: "the emulator runs right kernels in every order, and shows what is wrong with broken ones",
  ignore: IGNORE,
  fn: async () => {
    const program = await compile(["-O2"]);
    await checkResults(program);
    await checkEnds(program);
    // A race is seen in one order and hides in another.
    const name = "sum_block_without_barrier";
    assertEquals((await runCases(program, 0, name)).results, `${name} wrong\n`);
    assertEquals((await runCases(program, 1, name)).results, `${name} right\n`);
    const { stdout } = await new Deno.Command(program, { args: ["list"] }).output();
    const all = [...RIGHT, ...WRONG, ...Object.keys(ENDS), ...Object.keys(SANITIZED)];
    assertEquals(new TextDecoder().decode(stdout).trim().split("\n").sort(), all.sort());
    await Deno.remove(program);
  },
});

Deno.test({
  name: "the emulator lets the sanitizers see accesses outside of shared, global and stack memory",
  ignore: IGNORE,
  fn: async () => {
    const program = await compile([
      "-O1",
      "-g1",
      "-fno-var-tracking",
      "-fsanitize=address,undefined",
      "-fno-sanitize-recover=all",
    ]);
    await checkResults(program);
    for (const [name, message] of Object.entries(SANITIZED)) {
      const { code, said } = await runCases(program, 0, name);
      assert(code !== 0, name);
      assertMatch(said, message);
    }
    await Deno.remove(program);
  },
});
