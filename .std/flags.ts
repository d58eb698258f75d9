/**
 * Prints flags of Deno that make `@std/*` resolve, for tests and tools: the lock where JSR can be reached, from which
 * `imports.json` takes it, else an import map and lock that take the same modules from npm. `TOKENFILTER_STD` (`jsr`
 * or `npm`) decides; without it JSR is asked once a day.
 */
import { cacheDir, ifThere, writeAtomically } from "../lib/cache.ts";
import { UsageError } from "../lib/errors.ts";

const FLAGS = {
  jsr: "--lock=deno.lock",
  npm: "--import-map=.std/npm.json --lock=.std/npm.lock --frozen",
} as const;
type Source = keyof typeof FLAGS;

/** How long JSR may take to answer: some networks drop packets to unknown hosts. */
const PATIENCE_MS = 3000;
/** How long an answer holds. */
const LIFE_MS = 24 * 3600e3;

const isSource = (text: string | undefined): text is Source => text !== undefined && text in FLAGS;

/** What `TOKENFILTER_STD` names. @throws {UsageError} If it is neither source. */
function namedSource(): Source | undefined {
  const name = Deno.env.get("TOKENFILTER_STD") || undefined;
  if (name === undefined || isSource(name)) return name;
  throw new UsageError(`Cannot use TOKENFILTER_STD=${name}: expected jsr or npm`);
}

/** The last answer, while it holds. */
async function rememberedSource(path: string): Promise<Source | undefined> {
  const stat = await ifThere(Deno.stat(path));
  if (stat === undefined || Date.now() - stat.mtime!.getTime() > LIFE_MS) return undefined;
  const text = await ifThere(Deno.readTextFile(path));
  return isSource(text) ? text : undefined;
}

/** Downloads the packages of JSR into Deno's cache, or finds them there. */
async function askJsr(): Promise<Source> {
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("../imports.json", import.meta.url)));
  const packages = Object.values<string>(imports).filter((specifier) => specifier.startsWith("jsr:"));
  const probe = new Deno.Command(Deno.execPath(), {
    args: ["cache", "--no-config", "--no-lock", ...packages],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(() => probe.kill("SIGKILL"), PATIENCE_MS);
  const { success } = await probe.status;
  clearTimeout(timer);
  return success ? "jsr" : "npm";
}

async function findSource(): Promise<Source> {
  const folder = cacheDir(), path = `${folder}/std-source`;
  const remembered = await rememberedSource(path);
  if (remembered !== undefined) return remembered;
  const source = await askJsr();
  try {
    await Deno.mkdir(folder, { recursive: true });
    await writeAtomically(path, source);
  } catch (error) {
    // A cache that takes no files only means that JSR is asked again; what needs the cache says so itself.
    if (!(error instanceof Error)) throw error;
  }
  return source;
}

// Quiet, since Deno warns that the other map takes the place of deno.json's.
console.log("--quiet", FLAGS[namedSource() ?? await findSource()]);
