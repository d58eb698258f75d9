/** Translation units, each with the headers that it includes: a change compiles again what it touches, nothing else. */
import { sha256 } from "../../lib/sha256.ts";
import { includesOf, type Sources } from "../sources.ts";

/** Digest of a unit with its headers, and of anything else that decides what it compiles to. */
export async function unitKey(sources: Sources, path: string, rest: unknown): Promise<string> {
  const texts = includesOf(sources, path).map((name) => [name, sources.get(name)]);
  return (await sha256(JSON.stringify([path, texts, rest]))).slice(0, 32);
}

export async function writeSources(sources: Sources, folder: string): Promise<void> {
  for (const [path, text] of sources) {
    await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }
}
