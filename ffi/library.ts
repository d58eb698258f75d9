/** Finding, checking and opening the native libraries. A library once open is never closed. */
import { fileURLToPath } from "node:url";
import { isMissing } from "../lib/cache.ts";
import { NativeLibraryError } from "../lib/errors.ts";
import { ABI_VERSION, Op, type OpFunction, parseAbi } from "./abi.ts";
import { type LibraryManifest, manifestPath, readCache } from "./cache.ts";
import { IDENTITY, type NativeLibrary, SYMBOLS } from "./symbols.ts";

/** How messages call a library, the variable that may name another one, and the flags that build it. */
const LIBRARIES = {
  cpu: { title: "native library", variable: "TOKENFILTER_LIBRARY", flags: "" },
  cuda: { title: "CUDA library", variable: "TOKENFILTER_CUDA_LIBRARY", flags: " --cuda" },
} as const;

/** Libraries that this process has open, by path. */
const open = new Map<string, NativeLibrary<Deno.ForeignLibraryInterface>>();

/**
 * The command that builds what is missing: of this version of the package where it is from JSR, else of the `build.ts`
 * beside the code.
 *
 * @param module Address of a module in `ffi/`.
 */
export function buildCommand(flags = "", module: string = import.meta.url): string {
  const root = new URL("../", module);
  const [, name, version] = root.href.match(/^https:\/\/jsr\.io\/(@[^/]+\/[^/]+)\/([^/]+)\/$/) ?? [];
  if (name !== undefined) return `deno run -A jsr:${name}@${version}/build${flags}`;
  const script = root.protocol === "file:" ? fileURLToPath(new URL("build.ts", root)) : `${root}build.ts`;
  return `deno run -A ${/^[\w./:\\@%-]+$/.test(script) ? script : `"${script}"`}${flags}`;
}

/** Path of the library that the user names: `explicit`, else the environment; undefined: none. */
export function namedLibrary(library: "cpu" | "cuda", explicit?: string): string | undefined {
  return explicit ?? (Deno.env.get(LIBRARIES[library].variable) || undefined);
}

/**
 * The library that the user names, else the build of the present sources in the cache, with its manifest.
 *
 * @throws {NativeLibraryError} If it is in none of those places, or differs from what its build noted.
 */
export async function findLibrary<Manifest extends LibraryManifest>(
  library: "cpu" | "cuda",
  explicit?: string,
): Promise<{ path: string; manifest?: Manifest }> {
  const { title, variable, flags } = LIBRARIES[library];
  const named = namedLibrary(library, explicit);
  if (named !== undefined) {
    if (await isFile(named)) return { path: await Deno.realPath(named) };
    const source = explicit === undefined ? variable : "the path given";
    throw new NativeLibraryError(
      `Cannot find the ${title}: found nothing at "${named}" (${source}), expected a built library; ` +
        `run: ${buildCommand(flags)}`,
    );
  }
  const noted = await manifestPath(library);
  const cached = await readCache<Manifest>(noted);
  if (cached === undefined) {
    throw new NativeLibraryError(
      `Cannot find the ${title}: found neither ${variable} nor a build noted in "${noted}"; ` +
        `run: ${buildCommand(flags)}`,
    );
  }
  const { path, manifest, found } = cached;
  if (found === manifest.sha256) return { path, manifest };
  throw new NativeLibraryError(
    `Cannot use the ${title} "${path}": found ${found}, expected SHA-256 ${manifest.sha256}; ` +
      `run: ${buildCommand(flags)} --force`,
  );
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
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
    const opened = { symbols: Deno.dlopen(path, table).symbols, ops: openOps(path, identity) };
    open.set(path, opened);
    return opened;
  } catch (error) {
    const own = error instanceof NativeLibraryError || error instanceof Deno.errors.NotCapable;
    if (own || !(error instanceof Error)) throw error;
    throw new NativeLibraryError(`Cannot load "${path}": ${error.message}; ${fix}`, { cause: error });
  }
}

/** The ops of a library, as it describes them itself. */
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

/** Finds and opens the CPU library. */
export async function openCpuLibrary(explicit?: string): Promise<NativeLibrary> {
  return loadLibrary("cpu", (await findLibrary("cpu", explicit)).path, SYMBOLS);
}
