/** A digest of the code that computes: equal digests mean equal results. */
import { sha256 } from "../../../../lib/sha256.ts";

const ROOT = new URL("../../../../", import.meta.url);

/** Folders of the code that computes, and the files in them that count: sources, without tests. */
const FOLDERS = ["lib", "ffi", "kernels"],
  SOURCE = /\.(ts|cpp|h|cu|cuh|def)$/,
  TESTS = /(_test|testing)\.ts$/;

async function* listSources(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    const path = `${folder}/${name}`;
    if (isDirectory) {
      if (name !== "testdata" && name !== "testing") yield* listSources(path);
    } else if (SOURCE.test(name) && !TESTS.test(name)) yield path;
  }
}

/** SHA-256 of all sources that compute, by path. */
export async function digestCode(): Promise<string> {
  const paths = (await Promise.all(FOLDERS.map((folder) => Array.fromAsync(listSources(folder))))).flat()
    .sort();
  const lines = await Promise.all(
    paths.map(async (path) => `${await sha256(await Deno.readFile(new URL(path, ROOT)))} ${path}\n`),
  );
  return await sha256(lines.join(""));
}
