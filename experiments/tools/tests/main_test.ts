import { assert, assertEquals } from "@std/assert";
import { withFolder } from "../../commands/testing.ts";
import { findTested, isInFastTier } from "./main.ts";

const example = (language: string) =>
  `/**\n * \`\`\`${language}\n * f();\n * \`\`\`\n */\nexport const f = () => 1;\n`;

Deno.test("findTested() finds tests and examples, those of the slow folders first, and nothing else", () =>
  withFolder(async (folder) => {
    const files = {
      "plain.ts": "export const one = 1;\n",
      "example.ts": example("ts"),
      "ignored.ts": example("ts ignore"),
      "shell.ts": example("sh"),
      "page.md": "# A page\n\n```ts\n1;\n```\n",
      "notes.md": "# Notes\n",
      "lib/a_test.ts": "",
      "lib/build/b_test.ts": "",
      "kernels/op/op_test.ts": "",
      "experiments/c_test.ts": "",
      "ffi/script.js": example("js"),
      "build/d_test.ts": "",
      "results/e_test.ts": "",
      "node_modules/f_test.ts": "",
      "lib/node_modules/g_test.ts": "",
      ".hidden/h_test.ts": "",
    };
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.writeTextFile(`${folder}/${path}`, text);
    }
    const root = new URL(`file://${folder}/`);
    assertEquals(await findTested("", root), [
      ...["kernels/op/op_test.ts", "ffi/script.js", "experiments/c_test.ts"],
      ...[".hidden/h_test.ts", "example.ts", "lib/a_test.ts", "lib/build/b_test.ts", "page.md"],
    ]);
    assertEquals(await findTested("lib", root), ["lib/a_test.ts", "lib/build/b_test.ts"]);
  }));

Deno.test("findTested() finds this test, README's program and the examples of what users import", async () => {
  const all = await findTested("");
  for (const path of ["experiments/tools/tests/main_test.ts", "README.md", "mod.ts", "ffi/mod.ts"]) {
    assert(all.includes(path) && isInFastTier(path), path);
  }
  assert(isInFastTier("lib/entries/eval.ts") && isInFastTier("build.ts"));
  assert(all.includes("lib/heads/collection.ts") && !isInFastTier("lib/heads/collection.ts"));
});
