/**
 * The flags that make imports by name resolve in a Deno process of a test's own.
 *
 * @returns What `.std/flags.ts` prints, word by word.
 */
export async function resolveFlags(): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", new URL("../../.std/flags.ts", import.meta.url).href],
  }).output();
  return new TextDecoder().decode(stdout).trim().split(/\s+/).filter((flag) => flag !== "");
}
