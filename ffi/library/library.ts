/** Finding, checking and opening the native libraries. A library once open is never closed. */
import { fileURLToPath } from "node:url";
import { cacheDir, ifThere } from "../../lib/cache.ts";
import { NativeLibraryError, NoLibraryError } from "../../lib/errors.ts";
import { ABI_VERSION, Op, type OpFunction, parseAbi } from "./abi.ts";
import { ALL_LEVELS, type LibraryManifest, manifestPath, readCache } from "../cache.ts";
import { findPrebuilt, PLATFORM } from "./prebuilt.ts";
import { LEVELS, packageOf, sourceKey } from "./sources.ts";
import { IDENTITY, type NativeLibrary, SYMBOLS } from "./symbols.ts";

/** How messages call a library, the variable that may name another one, and the flags that build it. */
const LIBRARIES = {
  cpu: { title: "native library", variable: "TOKENFILTER_LIBRARY", flags: "" },
  cuda: { title: "CUDA library", variable: "TOKENFILTER_CUDA_LIBRARY", flags: " --cuda" },
} as const;

/** Libraries that this process has open, by path. */
const open = new Map<string, NativeLibrary<Deno.ForeignLibraryInterface>>();

/**
 * The command that builds a missing library: of this version of the package if it is from JSR, else of the `build.ts`
 * next to the code.
 *
 * @param module Address of a module in `ffi/`.
 */
export function buildCommand(flags = "", module: string = import.meta.url): string {
  const root = new URL("../../", module);
  const [, name, version] = root.href.match(/^https:\/\/jsr\.io\/(@[^/]+\/[^/]+)\/([^/]+)\/$/) ?? [];
  if (name !== undefined) return `deno run -A jsr:${name}@${version}/build${flags}`;
  const script = root.protocol === "file:" ? fileURLToPath(new URL("build.ts", root)) : `${root}build.ts`;
  return `deno run -A ${/^[\w./:\\@%-]+$/.test(script) ? script : `"${script}"`}${flags}`;
}

/** Path of the library that the user names: `explicit`, else the environment; undefined: none. */
export function namedLibrary(library: "cpu" | "cuda", explicit?: string): string | undefined {
  return explicit ?? (Deno.env.get(LIBRARIES[library].variable) || undefined);
}

interface BuildQuery {
  /** The CPU library's level, or {@linkcode ALL_LEVELS}; by default any that this machine runs. */
  readonly level?: string | undefined;
  /** Whether a build of the CPU library without the best level of this machine does not count. */
  readonly wantsBest?: boolean;
}

/**
 * The build of the present sources in the cache: of the CPU library the one with all levels, else the one of the highest
 * level that this machine runs.
 *
 * @param damaged Gets a line on each build that is not whole.
 * @throws {NativeLibraryError} If the cache is, or may be, another user's.
 */
export async function findBuild<Manifest extends LibraryManifest>(
  library: "cpu" | "cuda",
  { level, wantsBest = false }: BuildQuery = {},
  damaged: string[] = [],
) {
  const key = await sourceKey(library), levels = LEVELS[Deno.build.arch] ?? [];
  const singles = level === undefined ? levels.map(({ name }) => name).reverse() : [level];
  for (const name of library === "cuda" ? [undefined] : new Set([ALL_LEVELS, ...singles])) {
    const cached = await readCache<Manifest>(manifestPath(library, key, name));
    if (cached === undefined) continue;
    const { path, manifest, trouble } = cached;
    if (trouble !== undefined) damaged.push(`"${path}": ${trouble}`);
    else if (library === "cuda" || level !== undefined || runsHere(path, wantsBest)) {
      return { path, manifest, cached: true as const };
    }
  }
  return undefined;
}

/** Whether this machine runs a level of a CPU library, or has its best one there. */
function runsHere(path: string, wantsBest: boolean): boolean {
  const { symbols } = loadLibrary("cpu", path, SYMBOLS);
  const best = symbols.tkf_context_best_level(), mask = symbols.tkf_context_levels();
  return (wantsBest ? mask & 1 << best : mask & (2 << best) - 1) !== 0;
}

/** A library; its origin in words, unless that is the build in the cache. */
interface FoundLibrary<Manifest extends LibraryManifest> {
  readonly path: string;
  readonly manifest?: Manifest;
  readonly note?: string;
}

/**
 * The library that the user names, else that of an installed npm package (CPU only), else the build of the present sources
 * in the cache, with its manifest.
 *
 * @param query Which build, where none is named.
 * @throws {NativeLibraryError} If it is in none of those places, or differs from its build's manifest.
 */
export async function findLibrary<Manifest extends LibraryManifest>(
  library: "cpu" | "cuda",
  explicit?: string,
  query: BuildQuery = {},
): Promise<FoundLibrary<Manifest>> {
  const { title, variable, flags } = LIBRARIES[library];
  const named = namedLibrary(library, explicit);
  if (named !== undefined) {
    const source = explicit === undefined ? variable : "the path given";
    const isFile = (await ifThere(Deno.stat(named)))?.isFile;
    if (isFile) return { path: await Deno.realPath(named), note: `library of ${source}` };
    throw new NativeLibraryError(
      `Cannot find the ${title}: found nothing at "${named}" (${source}), expected a built library; ` +
        `run: ${buildCommand(flags)}`,
    );
  }
  const prebuilt = library === "cpu" ? await findPrebuilt() : undefined;
  if (prebuilt?.path !== undefined) return { path: prebuilt.path, note: `prebuilt ${prebuilt.name}` };
  const refused = prebuilt && `${prebuilt.name} (${prebuilt.trouble})`;
  const damaged: string[] = [], built = await findBuild<Manifest>(library, query, damaged);
  if (built !== undefined) return { ...built, ...(refused && { note: `built here, not ${refused}` }) };
  const ofLevel = query.level === undefined ? "" : ` --level ${query.level}`, [first] = damaged;
  if (first !== undefined) {
    throw new NativeLibraryError(
      `Cannot use the ${title} ${first}; run: ${buildCommand(`${flags}${ofLevel}`)} --force`,
    );
  }
  const what = query.level === undefined ? "" : ` with level "${query.level}"`;
  const tried = library === "cpu" ? `${variable}, ${refused ?? packageOf(PLATFORM)}` : variable;
  throw new NoLibraryError(
    `Cannot find the ${title}: found neither ${tried} nor a build of these sources${what} in "${cacheDir()}"; ` +
      `run: ${buildCommand(`${flags}${ofLevel}`)}`,
  );
}

/**
 * Opens a library and checks its ABI version; for the CUDA library no driver is needed.
 *
 * @param table Its functions about contexts.
 * @throws {NativeLibraryError} If the system cannot load it, or its ABI is another.
 */
export function loadLibrary<const Table extends Deno.ForeignLibraryInterface>(
  library: "cpu" | "cuda",
  path: string,
  table: Table,
): NativeLibrary<Table> {
  const known = open.get(path);
  if (known !== undefined) return known as NativeLibrary<Table>;
  const fix = `run: ${buildCommand(LIBRARIES[library].flags)}`;
  try {
    const { tkf_abi_version } = IDENTITY; // all that a library of another version has for certain
    const found = Deno.dlopen(path, { tkf_abi_version }).symbols.tkf_abi_version();
    if (found !== ABI_VERSION) {
      throw new NativeLibraryError(
        `Cannot use "${path}": found ABI version ${found}, expected ${ABI_VERSION}; ${fix} --force`,
      );
    }
    const { symbols: identity } = Deno.dlopen(path, IDENTITY);
    const opened = { symbols: Deno.dlopen(path, table).symbols, ops: openOps(path, identity), text };
    open.set(path, opened);
    return opened;
  } catch (error) {
    const own = error instanceof NativeLibraryError || error instanceof Deno.errors.NotCapable;
    if (own || !(error instanceof Error)) throw error;
    throw new NativeLibraryError(`Cannot load "${path}": ${error.message}; ${fix}`, { cause: error });
  }
}

export function openOps(
  path: string,
  identity: Deno.DynamicLibrary<typeof IDENTITY>["symbols"],
): ReadonlyMap<string, Op> {
  const layouts = [...parseAbi(text(identity.tkf_abi_describe())).values()];
  const signature = { parameters: ["pointer", "buffer", "u64"], result: "i32" } as const;
  const { symbols } = Deno.dlopen(path, Object.fromEntries(layouts.map(({ name }) => [name, signature])));
  return new Map(layouts.map((layout) => {
    return [
      layout.name,
      new Op(layout, symbols[layout.name] as unknown as OpFunction, identity.tkf_abi_address),
    ];
  }));
}

/** The text at an address; empty at NULL. */
export function text(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}

/** Finds and opens the CPU library; see {@linkcode findLibrary}. */
export async function openCpuLibrary(explicit?: string): Promise<NativeLibrary> {
  return loadLibrary("cpu", (await findLibrary("cpu", explicit)).path, SYMBOLS);
}
