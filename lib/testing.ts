/** Parts that tests of all rooms share. */

/**
 * Name and `ignore` of a test that some machines cannot run: `Deno.test({ ...unless(why, name), fn })`.
 *
 * @param why The thing that this machine lacks, for the test's name; undefined or false if there is none.
 */
export function unless(why: string | undefined | false, name: string): { name: string; ignore: boolean } {
  return why ? { name: `${name} (ignored: ${why})`, ignore: true } : { name, ignore: false };
}

/** Whether `deno task test` runs the slow tier too. Nothing else assigns a test to a tier. */
export const RUNS_SLOW = Deno.env.get("TOKENFILTER_TEST_SLOW") === "1";
/** Why a test of the slow tier does not run: `...unless(IN_SLOW_TIER, name)`. */
export const IN_SLOW_TIER = !RUNS_SLOW && "slow tier: TOKENFILTER_TEST_SLOW=1 deno task test";

/** Registers a test of the slow tier. */
export function testSlow(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ ...unless(IN_SLOW_TIER, name), fn });
}

/**
 * Runs with environment variables that only this file's tests see, through `Deno.env.get()`: `Deno.env.set()` would set
 * those of the process, in which other files' tests run at the same time. Processes that it starts do not get them.
 *
 * @param variables Values by name; undefined where a variable is not set.
 */
export async function withVariables<R>(
  variables: { readonly [name: string]: string | undefined },
  run: () => R | Promise<R>,
): Promise<R> {
  const { get } = Deno.env;
  Deno.env.get = (name) => Object.hasOwn(variables, name) ? variables[name] : get(name);
  try {
    return await run();
  } finally {
    Deno.env.get = get;
  }
}

/** Why a test does not run elsewhere than on Linux. */
export const NEEDS_LINUX = Deno.build.os !== "linux" && "needs Linux";
/** Why a test does not run on Windows. */
export const NOT_ON_WINDOWS = Deno.build.os === "windows" && "not on Windows";

/** Calls a test with a fresh folder, and removes it. */
export async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
