/** The flags that make `@std/*` resolve on this machine, for Deno processes that a task starts. */

/** What `.std/flags.ts` prints. @throws {Error} If it fails. */
export async function readStdFlags(): Promise<string[]> {
  const root = new URL("../../", import.meta.url);
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", ".std/flags.ts"],
    cwd: root,
    stdin: "null",
  }).output();
  if (!success) throw new Error(`Cannot resolve @std: ${new TextDecoder().decode(stderr).trim()}`);
  return new TextDecoder().decode(stdout).split(/\s+/).filter((flag) => flag !== "");
}
