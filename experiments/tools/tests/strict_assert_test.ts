import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { fileURLToPath } from "node:url";
import { withFolder } from "../../commands/testing.ts";
import { TEST_FLAGS } from "./main.ts";

const root = new URL("../../../", import.meta.url);

Deno.test("an example whose assertion is false fails under the flags of `deno task test`", () =>
  withFolder(async (folder) => {
    for (const [claim, code] of [["1 + 1 === 2", 0], ["1 + 1 === 3", 1], ["", 1]] as const) {
      const path = `${folder}/example.ts`;
      await Deno.writeTextFile(
        path,
        `/**\n * @example\n * \`\`\`ts\n * console.assert(${claim});\n * \`\`\`\n */\nexport const one = 1;\n`,
      );
      const run = await new Deno.Command(Deno.execPath(), {
        args: ["test", ...TEST_FLAGS, path], // the example imports nothing that @std has to resolve for
        cwd: fileURLToPath(root),
        env: { NO_COLOR: "1" },
      }).output();
      const said = new TextDecoder().decode(run.stdout);
      assertEquals(run.code, code, said);
      assertStringIncludes(said, code === 0 ? "1 passed | 0 failed" : "Assertion failed");
    }
  }));

Deno.test("no test sets variables or the folder of the process, which other files' tests share", async () => {
  await import("./strict_assert.ts"); // as `deno task test` does
  const calls = [() => Deno.env.set("X", "1"), () => Deno.env.delete("PATH"), () => Deno.chdir("/")];
  for (const call of calls) assertThrows(call, Error, "other files' tests share the process");
});
