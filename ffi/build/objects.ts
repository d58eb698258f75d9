/**
 * Compiled objects in the cache, named by a digest of their sources: a unit with the headers that it includes. A text beside
 * each holds the object's own digest and the compiler's output: one that is damaged is compiled anew.
 */
import { cacheDir, ifThere, OTHERS_READ, OWN_FOLDER, writeAtomically } from "../../lib/cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import { includesOf, type Sources } from "../library/sources.ts";
import { type BuildOptions, inParallel, readMade, runCompiler } from "./command.ts";

/** Objects that no build has used for this time are removed. */
const KEEP_DAYS = 14;

export interface ObjectJob {
  readonly unit: string;
  /** Its name in progress lines; the unit by default. */
  readonly name?: string;
  /** Arguments of the compiler; "-o" and the object's name follow. */
  readonly args: readonly string[];
  /** How long it takes next to the other jobs; by the length of its text where left out. */
  readonly cost?: number;
}

/** Time between two lines on how far a build is. */
const QUIET_MS = 4000;

interface ObjectRecipe {
  readonly title: string;
  /** Inputs of the compiler besides sources and arguments: its version. */
  readonly key: unknown;
  readonly command: string;
}

/** An object, and the compiler's output from when it was made. */
export interface BuiltObject {
  readonly path: string;
  readonly output: string;
}

/** Folder of objects; made by the first build. */
function objectsDir(): string {
  return `${cacheDir()}/objects`;
}

/**
 * Compiles the units that the cache does not hold, as many at once as there are cores.
 *
 * @param work A folder that serves to compile in.
 * @returns In the order of `jobs`.
 * @throws {NativeLibraryError} If the compiler fails on one; the message contains its output.
 */
export async function buildObjects(
  sources: Sources,
  jobs: readonly ObjectJob[],
  { title, key, command }: ObjectRecipe,
  work: string,
  options: BuildOptions = {},
): Promise<BuiltObject[]> {
  const { force = false, onProgress = () => {} } = options;
  const objects: (Required<ObjectJob> & { path: string; output: string | undefined })[] = [];
  for (const { unit, args, name = unit, cost = textLength(sources, unit) } of jobs) {
    const path = `${objectsDir()}/${await unitKey(sources, unit, [key, command, args])}.o`;
    objects.push({ unit, args, name, cost, path, output: force ? undefined : await noted(path) });
  }
  // The longest first, so that none of them is left over for the end.
  const missing = objects.filter(({ output }) => output === undefined).sort((a, b) => b.cost - a.cost);
  if (missing.length > 0) {
    const some = missing.length < jobs.length ? `${missing.length} of ${jobs.length}` : `${jobs.length}`;
    onProgress(
      `compiling ${some} files of the kernels, ${title}; once, later runs take them from ${cacheDir()}`,
    );
    await writeSources(sources, work);
  }
  const total = missing.reduce((sum, { cost }) => sum + cost, 0);
  let compiled = 0, done = 0; // cost, and number
  const started = performance.now();
  let told = started;
  await inParallel(missing, async (made) => {
    const { name, args, cost, path } = made, object = path.slice(objectsDir().length + 1);
    const what = `kernels/${name}`,
      output = await runCompiler(what, command, [...args, "-o", object], { cwd: work });
    const bytes = await readMade(what, command, `${work}/${object}`);
    await Deno.mkdir(objectsDir(), { recursive: true, mode: OWN_FOLDER });
    await writeAtomically(path, bytes, OTHERS_READ);
    await writeAtomically(`${path}.txt`, `${await sha256(bytes)}\n${output}`, OTHERS_READ);
    made.output = output;
    compiled += cost;
    done++;
    const now = performance.now(), left = (now - started) / 1000 / compiled * (total - compiled);
    if (now - told < QUIET_MS && done < missing.length) return;
    told = now;
    onProgress(`compiled ${done} of ${missing.length} files, about ${Math.ceil(left)} s left`);
  });
  await removeOld();
  return objects.map(({ path, output }) => ({ path, output: output! }));
}

/** Characters of a unit with all that it includes: how long it may take. */
function textLength(sources: Sources, unit: string): number {
  return includesOf(sources, unit).reduce((sum, path) => sum + sources.get(path)!.length, 0);
}

/** The compiler's output for an object in the cache that is whole; marks the object as used. */
function noted(path: string): Promise<string | undefined> {
  const read = async () => {
    const [digest, ...output] = (await Deno.readTextFile(`${path}.txt`)).split("\n");
    if (digest !== await sha256(await Deno.readFile(path))) return undefined;
    const now = new Date();
    await Deno.utime(path, now, now);
    await Deno.utime(`${path}.txt`, now, now);
    return output.join("\n");
  };
  return ifThere(read());
}

async function removeOld(): Promise<void> {
  const oldest = Date.now() - KEEP_DAYS * 24 * 3600 * 1000;
  for await (const { name } of Deno.readDir(objectsDir())) {
    const path = `${objectsDir()}/${name}`;
    const { mtime } = await Deno.stat(path).catch(() => ({ mtime: null }));
    if (mtime !== null && mtime.getTime() < oldest) await Deno.remove(path).catch(() => {});
  }
}

/** Digest of a unit with its headers, and of the compiler's other inputs. */
export async function unitKey(sources: Sources, path: string, rest: unknown): Promise<string> {
  const texts = includesOf(sources, path).map((name) => [name, sources.get(name)]);
  return (await sha256(JSON.stringify([path, texts, rest]))).slice(0, 32);
}

async function writeSources(sources: Sources, folder: string): Promise<void> {
  for (const [path, text] of sources) {
    await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }
}
