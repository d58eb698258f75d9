/** Files of the package, in every runtime. */

/** The part of Node that reads files, also in Deno and Bun; browsers have none. */
interface Process {
  getBuiltinModule?(name: "node:fs/promises"): { readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> };
}

/** The bytes of a file next to the code, on a disk or on a server. @throws {Error} If it cannot be read. */
export async function readOwnFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { process } = globalThis as { process?: Process };
  const files = url.protocol === "file:" ? process?.getBuiltinModule?.("node:fs/promises") : undefined;
  if (files !== undefined) return await files.readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`found HTTP status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
