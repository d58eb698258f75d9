/**
 * Prints flags of Deno that make `@std/*` resolve, for tests and tools. Where JSR can be reached, `imports.json` takes
 * the modules from it, and the flag is a lock with its packages. Elsewhere an import map and a lock take them from npm.
 * `TOKENFILTER_STD` (`jsr` or `npm`) decides; without it JSR is asked once, and not again before `imports.json` changes.
 */
import { cacheDir, ifThere, prepareCacheDir, writeAtomically } from "../lib/cache.ts";
import { UsageError } from "../lib/errors.ts";
import { sha256 } from "../lib/sha256.ts";

const NPM = "--import-map=.std/npm.json --lock=.std/npm.lock --frozen";

/** How long JSR may take to answer: some networks drop packets to unknown hosts. */
const PATIENCE_MS = 3000;

const ROOT = new URL("../", import.meta.url);

/** Ends with one line. */
function fail(message: string): never {
  console.error(message);
  Deno.exit(2);
}

const named = Deno.env.get("TOKENFILTER_STD") || undefined;
if (named !== undefined && named !== "jsr" && named !== "npm") {
  fail(`Cannot use TOKENFILTER_STD=${named}: expected jsr or npm`);
}

/** Downloads the packages of JSR into Deno's cache, and notes their digests in a lock. @returns Whether they came. */
async function askJsr(packages: readonly string[], lock: string): Promise<boolean> {
  const probe = new Deno.Command(Deno.execPath(), {
    args: ["cache", `--lock=${lock}`, ...packages],
    cwd: ROOT, // whose deno.json keeps the other packages in the lock
    stdout: "null",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(() => probe.kill("SIGKILL"), PATIENCE_MS);
  const { success } = await probe.status;
  clearTimeout(timer);
  return success;
}

/** The flags of the named source, else of the source that an earlier command has found, else of the one found now. */
async function findFlags(): Promise<string> {
  if (named === "npm") return NPM;
  const imports = await Deno.readTextFile(new URL("imports.json", ROOT));
  const folder = `${cacheDir()}/std-${(await sha256(imports)).slice(0, 16)}`, noted = `${folder}/source`;
  const lock = `${folder}/deno.lock`, jsr = `--lock=${lock}`;
  if (/\s/.test(lock)) return NPM; // the flags are words of a command line
  const known = named ?? await ifThere(Deno.readTextFile(noted));
  if (known === "npm") return NPM;
  if (known === "jsr" && await ifThere(Deno.stat(lock)) !== undefined) return jsr;
  await prepareCacheDir(folder);
  await Deno.copyFile(new URL("deno.lock", ROOT), lock);
  const specifiers = Object.values<string>(JSON.parse(imports).imports);
  const found = await askJsr(specifiers.filter((specifier) => specifier.startsWith("jsr:")), lock);
  await writeAtomically(noted, found ? "jsr" : "npm");
  return found || named === "jsr" ? jsr : NPM;
}

const flags = await findFlags().catch((error) => {
  if (!(error instanceof UsageError)) throw error;
  // The answer of JSR could not be stored. Commands that need the cache report its fault.
  return named === undefined ? NPM : fail(error.message);
});
// Quiet, since Deno warns that the other map takes the place of deno.json's.
console.log("--quiet", flags);
