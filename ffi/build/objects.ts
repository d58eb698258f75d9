/** Compiled objects in the cache, named by what they were compiled from. */
import { cacheDir, isMissing, writeAtomically } from "../../lib/cache.ts";
import { includesOf, type Sources } from "../sources.ts";
import { type BuildOptions, inParallel, runCompiler } from "./command.ts";
import { unitKey, writeSources } from "./units.ts";

/** Objects that no build has used for so long are removed. */
const KEEP_DAYS = 14;

/** How units are compiled. */
export interface ObjectRecipe {
  /** What the progress lines call it. */
  readonly compiler: string;
  /** Whatever decides the result beside the sources: the compiler's version, flags. */
  readonly key: unknown;
  readonly command: string;
  /** Arguments for a unit; "-o" and the object's name follow. */
  args(unit: string): readonly string[];
}

/** An object, and what the compiler printed when it was made. */
export interface BuiltObject {
  readonly unit: string;
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
 * @returns In the order of `units`.
 * @throws {NativeLibraryError} If the compiler fails on one; the message holds what it printed.
 */
export async function buildObjects(
  sources: Sources,
  units: readonly string[],
  recipe: ObjectRecipe,
  work: string,
  options: BuildOptions = {},
): Promise<BuiltObject[]> {
  const { force = false, onProgress = () => {} } = options;
  await Deno.mkdir(objectsDir(), { recursive: true });
  const found = new Map<string, BuiltObject>();
  const missing: { unit: string; path: string }[] = [];
  for (const unit of units) {
    const path = `${objectsDir()}/${await unitKey(sources, unit, recipe.key)}.o`;
    const output = force ? undefined : await noted(path);
    if (output === undefined) missing.push({ unit, path });
    else found.set(unit, { unit, path, output });
  }
  if (missing.length > 0) {
    onProgress(`compiling ${missing.length} of ${units.length} files with ${recipe.compiler}`);
    await writeSources(sources, work);
    // The longest first, so that none of them is left over for the end.
    missing.sort((a, b) => textLength(sources, b.unit) - textLength(sources, a.unit));
  }
  const total = missing.reduce((sum, { unit }) => sum + textLength(sources, unit), 0);
  let compiled = 0, done = 0; // length of their texts, and number
  const started = performance.now();
  await inParallel(missing, async ({ unit, path }) => {
    const object = `${unit.replaceAll("/", ".")}.o`;
    const args = [...recipe.args(unit), "-o", object];
    const output = await runCompiler(`kernels/${unit}`, recipe.command, args, { cwd: work });
    await writeAtomically(`${path}.txt`, output);
    await writeAtomically(path, await Deno.readFile(`${work}/${object}`));
    found.set(unit, { unit, path, output });
    compiled += textLength(sources, unit);
    const seconds = (performance.now() - started) / 1000;
    const left = seconds / compiled * (total - compiled);
    onProgress(`compiled ${unit} (${++done} of ${missing.length}, about ${Math.ceil(left)} s left)`);
  });
  await removeOld();
  return units.map((unit) => found.get(unit)!);
}

/** Characters of a unit with all that it includes: how long it may take. */
function textLength(sources: Sources, unit: string): number {
  return includesOf(sources, unit).reduce((sum, path) => sum + sources.get(path)!.length, 0);
}

/** What the compiler printed for an object in the cache; marks it as used. */
async function noted(path: string): Promise<string | undefined> {
  try {
    const output = await Deno.readTextFile(`${path}.txt`);
    const now = new Date();
    await Deno.utime(path, now, now);
    await Deno.utime(`${path}.txt`, now, now);
    return output;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function removeOld(): Promise<void> {
  const oldest = Date.now() - KEEP_DAYS * 24 * 3600 * 1000;
  for await (const { name } of Deno.readDir(objectsDir())) {
    const path = `${objectsDir()}/${name}`;
    const { mtime } = await Deno.stat(path).catch(() => ({ mtime: null }));
    if (mtime !== null && mtime.getTime() < oldest) await Deno.remove(path).catch(() => {});
  }
}
