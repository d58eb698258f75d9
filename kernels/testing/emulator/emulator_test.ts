import { assert, assertEquals, assertMatch } from "@std/assert";
import { findCompiler, run } from "../../../ffi/build/command.ts";
import { EMULATOR_UNITS } from "../../../ffi/build/emulated_testing.ts";
import { NO_EMULATOR } from "../../../ffi/cuda/testing.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";

const KERNELS = new URL("../../", import.meta.url);

/** Compiles the self-test with the emulator: as one unit, whose headers are read once. */
async function compile(...flags: string[]): Promise<string> {
  const program = await Deno.makeTempFile({ prefix: "selftest-" }), unit = `${program}.cpp`;
  const { command, args } = await findCompiler();
  const common = ["-DTKF_EMULATE", "-std=c++17", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-psabi"];
  const sources = [...EMULATOR_UNITS, "testing/emulator/selftest.cpp"];
  await Deno.writeTextFile(unit, sources.map((source) => `#include "${source}"\n`).join(""));
  const { success, stderr } = await run(
    command,
    [...args, ...common, ...flags, "-pthread", "-I.", unit, "-o", program],
    { cwd: KERNELS },
  );
  await Deno.remove(unit);
  assert(success, stderr);
  assertEquals(stderr, "");
  return program;
}

/** Runs a case in an order of threads. */
async function runCase(program: string, name: string, order = 0, env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [String(order), name],
    env: { ASAN_OPTIONS: "detect_leaks=0", ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, result: decoder.decode(stdout).trim(), said: decoder.decode(stderr) };
}

Deno.test({
  ...unless(
    NO_EMULATOR || NOT_ON_WINDOWS,
    "the emulator shows a race in one order of threads at least, names who waits for ever, and cuts products off",
  ),
  fn: async () => {
    const program = await compile("-O1");
    const results = async (name: string) =>
      await Promise.all([0, 1, 2, 3, 4].map(async (order) => (await runCase(program, name, order)).result));
    assertEquals(await results("sum_block"), Array(5).fill("right"));
    const [ascending, descending] = await results("sum_block_without_barrier");
    assertEquals([ascending, descending], ["wrong", "right"]); // why there are several orders
    const { code, result, said } = await runCase(program, "lonely_barrier");
    assert(code !== 0 && result === "", `${code}`);
    assertMatch(
      said,
      /^emulator: kernel one.kernel, block \(0, 0, 0\), thread \d+: found threads that wait for/,
    );
    assertMatch(said, /33 at the barrier of \S+:\d+, 31 in __syncwarp with mask ffffffff/);
    for (const [name, together] of [["eight_products", "8"], ["sixteen_products", "16"]] as const) {
      assertEquals((await runCase(program, name, 0, { TKF_EMULATOR_MMA: together })).result, "right", name);
    }
    await Deno.remove(program);
  },
});

Deno.test({
  ...unless(
    NOT_ON_WINDOWS || IN_SLOW_TIER, // .ci/kernels has no other use for them
    "the emulator lets the sanitizers see accesses outside of shared, global and stack memory",
  ),
  fn: async () => {
    const sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    const program = await compile("-O0", ...sanitize);
    assertEquals((await runCase(program, "sum_block")).result, "right");
    for (
      const [name, message] of [
        ["past_shared", /heap-buffer-overflow/],
        ["past_global", /heap-buffer-overflow/],
        ["deep_stack", /stack-overflow|SEGV/],
      ] as const
    ) {
      const { code, said } = await runCase(program, name);
      assert(code !== 0, name);
      assertMatch(said, message);
    }
    await Deno.remove(program);
  },
});
