/** The command of docs/guides/extend.md: it type-checks, runs, and refuses flags that it does not declare. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { copyProject, finish } from "../testing.ts";

const guide = await Deno.readTextFile(new URL("../../../docs/guides/extend.md", import.meta.url));

Deno.test("the guide's command is one file that runs, and refuses flags of other commands", async () => {
  const [, code] = guide.match(/^## A command$.*?```ts ignore\n(.*?)^ *```$/ms)!;
  const copy = copyProject("experiments/commands"), path = "experiments/commands/tokens.ts";
  await Deno.writeTextFile(`${copy}/${path}`, code!.replaceAll(/^ {3}/gm, ""));
  const deno = async (...args: string[]) =>
    await finish(
      new Deno.Command(Deno.execPath(), { args, cwd: copy, stdout: "piped", stderr: "piped" }).spawn(),
    );
  const { code: status, stdout, stderr } = await deno("run", "-A", "--check", path, "--json");
  assertEquals([status, stdout], [0, '{"text":"built-in prose","tokens":4490}\n'], stderr);
  for (const flag of ["--method=oracle", "--prune-ratio=0.9", "--backend=cuda"]) {
    const refused = await deno("run", "-A", "--no-check", path, flag);
    const name = flag.split("=")[0];
    assertEquals([refused.code, refused.stdout], [2, ""]);
    assertStringIncludes(refused.stderr, `Cannot use flag "${name}": "tokens" has no such flag`);
  }
});
