/**
 * Builds every kernel that is broken on purpose, and fails unless a test notices each that passes on whole ones:
 * `deno run -A kernels/testing/mutants/run.ts [OP | part of a name]…`, where OP is a folder of `kernels/`.
 */
import { fileURLToPath } from "node:url";
import { inParallel } from "../../../ffi/build/command.ts";
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { MUTANTS } from "./cases.ts";
import type { Mutant } from "./mutant.ts";

/** A test that ends in none of these has not come to an end by itself. */
const NOTICED = /FAILED|emulator: kernel/;
/** What ends a process that reaches beyond its memory, or divides by zero. */
const CRASHES: readonly (Deno.Signal | null)[] = ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"];
const LIMIT_MS = 300_000;

/** Puts the mutation into the sources. @throws {RangeError} If the text is not there just once. */
export function mutate(sources: Map<string, string>, { name, file, from, to }: Mutant): void {
  const parts = (sources.get(file) ?? "").split(from);
  if (parts.length !== 2) {
    throw new RangeError(
      `Cannot break kernels/${file} ("${name}"): found the text ${parts.length - 1} times, expected once`,
    );
  }
  sources.set(file, parts.join(to));
}

/** Runs the mutant's test on a library. Returns whether it passes, the signal that ended it, and its output. */
async function runTest(
  { test, filter }: Pick<Mutant, "test" | "filter">,
  library: string,
) {
  const { success, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["test", "-A", "--no-check", "--fail-fast"],
      ...(filter === "" ? [] : ["--filter", filter]),
      fileURLToPath(new URL(`../../${test}`, import.meta.url)),
    ],
    env: {
      TOKENFILTER_EMULATED: library,
      TOKENFILTER_TEST_DEVICE: "emulated",
      TOKENFILTER_TEST_SLOW: "1", // a race may show in only one order of threads
      NO_COLOR: "1",
    },
    signal: AbortSignal.timeout(LIMIT_MS),
  }).output();
  const decoder = new TextDecoder();
  return { success, signal, said: decoder.decode(stdout) + decoder.decode(stderr) };
}

if (import.meta.main) {
  const folders = new Set(
    Array.from(Deno.readDirSync(new URL("../..", import.meta.url)), ({ name }) => name),
  );
  const isOf = ({ name, file, test }: Mutant, asked: string) =>
    folders.has(asked) ? [file, test].some((path) => path.startsWith(`${asked}/`)) : name.includes(asked);
  const chosen = MUTANTS.filter((mutant) =>
    Deno.args.length === 0 || Deno.args.some((asked) => isOf(mutant, asked))
  );
  if (chosen.length === 0) {
    console.log(`0 mutants: none is of ${Deno.args.join(", ")}`);
    Deno.exit(0);
  }
  const whole = (await buildEmulated()).path;
  const tests = [...new Map(chosen.map((each) => [`${each.test} ${each.filter}`, each])).values()];
  await inParallel(tests, async ({ test, filter }) => {
    const { success, said } = await runTest({ test, filter }, whole);
    if (success && !said.includes(" 0 passed")) return;
    console.log(`${test} "${filter}" fails without a mutant, or runs no test:\n${said}`);
    Deno.exit(1);
  });
  let survivors = 0, done = 0;
  await inParallel(chosen, async (mutant) => {
    const started = performance.now();
    // First in the files of the op that is tested: a header may be part of all others.
    const own = mutant.test.replace(/[^/]*$/, "");
    let noticed = false, ended = "";
    for (const patched of [(unit: string) => unit.startsWith(own), () => true]) {
      const { path } = await buildEmulated({ patch: (sources) => mutate(sources, mutant), patched });
      if (path === whole) continue;
      const { success, signal, said } = await runTest(mutant, path);
      const isEnd = NOTICED.test(said) || CRASHES.includes(signal);
      noticed = !success && isEnd && !/NativeLibraryError/.test(said);
      ended = `${signal ?? ""} ${said.split("\n").slice(-20).join("\n")}`;
      await Deno.remove(path);
      await Deno.remove(`${path}.txt`);
      if (noticed) break;
    }
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(
      `${noticed ? "noticed " : "SURVIVES"} ${++done}/${chosen.length} ${mutant.name} (${seconds} s)`,
    );
    if (!noticed) console.log(ended);
    if (!noticed) survivors++;
  });
  console.log(`${chosen.length - survivors} of ${chosen.length} mutants noticed`);
  Deno.exit(survivors === 0 ? 0 : 1);
}
