/** Parts that tests of all rooms share. */

/**
 * Name and `ignore` of a test that some machines cannot run: `Deno.test({ ...unless(why, name), fn })`.
 *
 * @param why The thing that this machine lacks, for the test's name; undefined or false if there is none.
 */
export function unless(why: string | undefined | false, name: string): { name: string; ignore: boolean } {
  return why ? { name: `${name} (ignored: ${why})`, ignore: true } : { name, ignore: false };
}

/** Whether the slow tier runs too: `deno task test:slow` sets the variable. Nothing else assigns a test to a tier. */
export const RUNS_SLOW = Deno.env.get("TOKENFILTER_TEST_SLOW") === "1";
/** Why a test of the slow tier does not run: `...unless(IN_SLOW_TIER, name)`. */
export const IN_SLOW_TIER = !RUNS_SLOW && "slow tier: deno task test:slow";

/** Registers a test of the slow tier. */
export function testSlow(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ ...unless(IN_SLOW_TIER, name), fn });
}

/** Why a test does not run elsewhere than on Linux. */
export const NEEDS_LINUX = Deno.build.os !== "linux" && "needs Linux";
/** Why a test does not run on Windows. */
export const NOT_ON_WINDOWS = Deno.build.os === "windows" && "not on Windows";
