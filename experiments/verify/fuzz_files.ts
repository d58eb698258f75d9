/**
 * Reads many broken model files of every kind, as `lib/model/fuzz_test.ts` does few.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/verify/fuzz_files.ts [COUNT] [SEED]
 *
 * Prints a line of JSON for each kind; ends at the first file that crashes, hangs, allocates too much or is refused
 * without its place. COUNT files in all (200,000), SEED 1.
 */
import { fuzz, KINDS } from "../../lib/model/fuzz_testing.ts";

const count = Number(Deno.args[0] ?? 200_000), seed = Number(Deno.args[1] ?? 1), kinds = Object.keys(KINDS);
for (const [i, kind] of kinds.entries()) {
  const share = Math.floor(count / kinds.length) + (i < count % kinds.length ? 1 : 0);
  console.log(JSON.stringify({ kind, seed, ...fuzz(kind, share, seed) }));
}
