/**
 * Prints the flags that make `@std/*` resolve: none where JSR can be reached (deno.json names the packages there),
 * else the import map and lock that take the same modules from npm's `deno-std`.
 */
const config = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
const specifiers = Object.values<string>(config.imports).filter((s) => s.startsWith("jsr:"));

const probe = new Deno.Command(Deno.execPath(), {
  args: ["cache", "--no-config", "--no-lock", ...specifiers],
  stdout: "null",
  stderr: "null",
}).spawn();
const timer = setTimeout(() => probe.kill("SIGKILL"), 5000);
const { success } = await probe.status;
clearTimeout(timer);

if (!success) console.log("--import-map=.std/npm.json --lock=.std/npm.lock --frozen");
