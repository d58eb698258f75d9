/** What runs: the package's version, and the runtime. */
import { readOwnFile } from "./files.ts";

const IS_DENO = "Deno" in globalThis;

/** The package's version, of the file that the package of the runtime has. */
export async function readVersion(): Promise<string> {
  const bytes = await readOwnFile(new URL(`../${IS_DENO ? "deno" : "package"}.json`, import.meta.url));
  return JSON.parse(new TextDecoder().decode(bytes)).version;
}

/** What Node and Bun tell of themselves. */
interface Process {
  readonly platform: string;
  readonly arch: string;
  readonly versions: { readonly node: string; readonly bun?: string };
}

/** @internal Deno's version, or name and version of another runtime; system and architecture. */
export function describeRuntime(): { readonly deno: string; readonly platform: string } {
  if (IS_DENO) return { deno: Deno.version.deno, platform: `${Deno.build.os} ${Deno.build.arch}` };
  const { platform, arch, versions } = (globalThis as unknown as { process: Process }).process;
  const deno = versions.bun === undefined ? `node ${versions.node}` : `bun ${versions.bun}`;
  return { deno, platform: `${platform} ${arch}` };
}
