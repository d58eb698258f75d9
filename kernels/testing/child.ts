/**
 * Code run in a Deno process of its own with environment variables of its own: test files share one environment,
 * also where they run in parallel.
 */
const REPOSITORY = new URL("../../", import.meta.url).href;

/**
 * Runs the body of an async function in which `load(path)` imports a module of this repository, whose address is
 * `repository`.
 *
 * @param env Variables to set; "" counts as not set.
 * @returns The return value of the body, by way of JSON; an error it throws as `{ error: "name: message" }`.
 */
// deno-lint-ignore no-explicit-any
export async function inChild(env: Record<string, string>, body: string): Promise<any> {
  const code = `
    const repository = ${JSON.stringify(REPOSITORY)};
    const load = (path) => import(repository + path);
    let result;
    try {
      result = await (async () => { ${body} })();
    } catch (error) {
      result = { error: error.name + ": " + error.message };
    }
    console.log(JSON.stringify(result ?? null));`;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-config", "--no-lock", code],
    env: { TOKENFILTER_LIBRARY: "", TOKENFILTER_LEVEL: "", TOKENFILTER_BLAS: "", CXX: "", ...env },
    stdin: "null",
  }).output();
  if (!success) throw new Error(`The child failed: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}
