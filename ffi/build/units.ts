/** Translation units, each with the headers that it includes: a change compiles again what it touches, nothing else. */
import { sha256 } from "../../lib/sha256.ts";
import { localIncludes, type Sources } from "../sources.ts";

/**
 * A source file and all that it includes, directly or not, sorted. Files of the system are left out, and so are those
 * that are not there: the compiler says so.
 */
export function includesOf(sources: Sources, path: string): string[] {
  const found = new Set<string>();
  const visit = (path: string) => {
    const text = sources.get(path);
    if (text === undefined || found.has(path)) return;
    found.add(path);
    localIncludes(path, text).forEach(visit);
  };
  visit(path);
  return [...found].sort();
}

/** Digest of a unit with its headers, and of anything else that decides what it compiles to. */
export async function unitKey(sources: Sources, path: string, rest: unknown): Promise<string> {
  const texts = includesOf(sources, path).map((name) => [name, sources.get(name)]);
  return (await sha256(JSON.stringify([path, texts, rest]))).slice(0, 32);
}

/** Writes sources to a folder. */
export async function writeSources(sources: Sources, folder: string): Promise<void> {
  for (const [path, text] of sources) {
    await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }
}
