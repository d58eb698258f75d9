/** What tests of all rooms share. */

/**
 * Name and `ignore` of a test that some machines cannot run: `Deno.test({ ...unless(why, name), fn })`.
 *
 * @param why What is missing here, which then stands in the name; undefined or false where nothing is.
 */
export function unless(why: string | undefined | false, name: string): { name: string; ignore: boolean } {
  return why ? { name: `${name} (ignored: ${why})`, ignore: true } : { name, ignore: false };
}

/** Why a test does not run elsewhere than on Linux. */
export const NEEDS_LINUX = Deno.build.os !== "linux" && "needs Linux";
/** Why a test does not run on Windows. */
export const NOT_ON_WINDOWS = Deno.build.os === "windows" && "not on Windows";
