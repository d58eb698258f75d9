import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { withFolder } from "../commands/testing.ts";
import { main } from "./verified.ts";
import { findUnverified } from "./verified/noted.ts";

Deno.test("a script is verified until a file that it depends on changes", () =>
  withFolder(async (root) => {
    const files = {
      ".ci/verified.json": "{}",
      ".ci/cuda": "# checks",
      "kernels/a/a_test.ts": "1;",
      "kernels/README.md": "# Kernels",
      "lib/a.ts": "2;",
    };
    const write = async (path: string, text: string) => {
      await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    };
    for (const [path, text] of Object.entries(files)) await write(path, text);
    for (const args of [["init", "-q"], ["add", "."]]) {
      assert((await new Deno.Command("git", { args, cwd: root }).output()).success);
    }
    const all = ["cuda", "emulated", "mutants", "notebook", "packages", "sanitize"];
    assertEquals(await findUnverified(root), all);
    await main(["--note", "cuda mutants", "--out", `${root}/other.json`], root);
    assertEquals(await findUnverified(root), all);
    await main(["--note", "cuda mutants"], root);
    assertEquals(
      await Deno.readTextFile(`${root}/.ci/verified.json`),
      await Deno.readTextFile(`${root}/other.json`),
    );
    assertEquals(await findUnverified(root), ["emulated", "notebook", "packages", "sanitize"]);
    await main(["--note", "emulated sanitize notebook packages"], root);
    assertEquals(await findUnverified(root), []);
    await write("kernels/README.md", "# Other");
    await write("lib/a.ts", "3;");
    assertEquals(await findUnverified(root), []);
    await write(".ci/cuda", "# fewer checks");
    assertEquals(await findUnverified(root), ["cuda"]);
    await write("kernels/a/a_test.ts", "4;");
    assertEquals(await findUnverified(root), ["cuda", "emulated", "mutants", "sanitize"]);
    await assertRejects(() => main(["--note", "cuda all"], root), UsageError, 'Cannot note "all"');
  }));

Deno.test("a script that tests kernels is verified op by op", () =>
  withFolder(async (root) => {
    const write = async (path: string, text: string) => {
      await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    };
    await write(".ci/verified.json", "{}");
    for (const [op, imported] of [["one", "testing"], ["two", "one"], ["three", "two"]]) {
      await write(`kernels/${op}/${op}.def`, "");
      await write(`kernels/${op}/cases.ts`, `import {} from "../${imported}/inputs.ts";`);
    }
    await write("kernels/testing/inputs.ts", "1;");
    for (const args of [["init", "-q"], ["add", "."]]) {
      assert((await new Deno.Command("git", { args, cwd: root }).output()).success);
    }
    const findMutants = async () =>
      (await findUnverified(root)).filter((name) => !/packages|notebook/.test(name));
    assertEquals(await findMutants(), ["cuda", "emulated", "mutants", "sanitize"]);
    await main(["--note", "cuda emulated sanitize mutants:one mutants:two"], root);
    assertEquals(await findUnverified(root), ["mutants:three", "notebook", "packages"]);
    await main(["--note", "mutants notebook packages"], root);
    assertEquals(await findUnverified(root), []);
    await write("kernels/two/cases.ts", 'import {} from "../one/inputs.ts"; 2;');
    // Cases of three import those of two. CUDA is compiled only from native sources.
    const due = ["emulated", "mutants", "sanitize"].flatMap((script) =>
      ["three", "two", ...(script === "mutants" ? [] : ["others"])].map((part) => `${script}:${part}`)
    );
    assertEquals(await findUnverified(root), due);
    // Three imports one by way of two.
    await main(["--note", "emulated sanitize mutants"], root);
    await write("kernels/one/cases.ts", 'import {} from "../testing/inputs.ts"; 3;');
    assertEquals(await findUnverified(root), ["emulated", "mutants", "sanitize"]);
    await main(["--note", "emulated sanitize mutants"], root);
    await write("kernels/testing/inputs.ts", "2;");
    assertEquals(await findUnverified(root), ["emulated", "mutants", "sanitize"]);
    await assertRejects(
      () => main(["--note", "mutants:four"], root),
      UsageError,
      'Cannot note "mutants:four"',
    );
    await assertRejects(() => main(["--note", "mutants:others"], root), UsageError, "such as mutants:linear");
  }));
