/** The package's version. */
export async function readVersion(): Promise<string> {
  return JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url))).version;
}
