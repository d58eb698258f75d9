/** Compiled objects in the cache, named by what they were compiled from. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { cacheDir, isMissing, writeAtomically } from "../cache.ts";
import { inParallel, run } from "./command.ts";
import { includesOf, type Sources, unitKey, writeSources } from "./units.ts";

/** Objects that no build has used for so long are removed. */
const KEEP_DAYS = 14;

/** How units are compiled. */
export interface ObjectRecipe {
  /** What the progress lines call it. */
  readonly compiler: string;
  /** Whatever decides the result beside the sources: the compiler's version, flags. */
  readonly key: unknown;
  readonly command: string;
  readonly env?: Record<string, string>;
  /** Arguments for a unit; "-o" and the object's name follow. */
  args(unit: string): readonly string[];
}

/** An object, and what the compiler said when it was made. */
export interface BuiltObject {
  readonly unit: string;
  readonly path: string;
  readonly said: string;
}

/** Options of {@linkcode buildObjects}. */
export interface ObjectOptions {
  readonly force?: boolean;
  readonly onProgress?: (message: string) => void;
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
 * @throws {NativeLibraryError} If the compiler fails on one; the message holds what it said.
 */
export async function buildObjects(
  sources: Sources,
  units: readonly string[],
  recipe: ObjectRecipe,
  work: string,
  options: ObjectOptions = {},
): Promise<BuiltObject[]> {
  const { force = false, onProgress = () => {} } = options;
  await Deno.mkdir(objectsDir(), { recursive: true });
  const found = new Map<string, BuiltObject>();
  const missing: { unit: string; path: string }[] = [];
  for (const unit of units) {
    const path = `${objectsDir()}/${await unitKey(sources, unit, recipe.key)}.o`;
    const said = force ? undefined : await noted(path);
    if (said === undefined) missing.push({ unit, path });
    else found.set(unit, { unit, path, said });
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
    const { success, stdout, stderr } = await run(recipe.command, args, { cwd: work, env: recipe.env });
    const said = stdout + stderr;
    if (!success) {
      throw new NativeLibraryError(
        `Cannot build the native library: the compiler failed on kernels/${unit}:\n${said}`,
      );
    }
    await writeAtomically(`${path}.txt`, said);
    await writeAtomically(path, await Deno.readFile(`${work}/${object}`));
    found.set(unit, { unit, path, said });
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

/** What the compiler said of an object in the cache; marks it as used. */
async function noted(path: string): Promise<string | undefined> {
  try {
    const said = await Deno.readTextFile(`${path}.txt`);
    const now = new Date();
    await Deno.utime(path, now, now);
    await Deno.utime(`${path}.txt`, now, now);
    return said;
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
