/** The package's version. */
export async function readVersion(): Promise<string> {
  const response = await fetch(new URL("../deno.json", import.meta.url));
  return (await response.json()).version;
}
