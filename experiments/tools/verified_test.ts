import { assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { main } from "./verified.ts";
import { withCheckout } from "./verified/checkout_testing.ts";
import { findUnverified } from "./verified/noted.ts";

Deno.test("a script is verified until a file that it depends on changes", () =>
  withCheckout({
    ".ci/verified.json": "{}",
    ".ci/cuda": "# checks",
    "kernels/a/a_test.ts": "1;",
    "kernels/README.md": "# Kernels",
    "lib/a.ts": "2;",
  }, async (root, write) => {
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
  withCheckout({
    ".ci/verified.json": "{}",
    "kernels/testing/inputs.ts": "1;",
    ...Object.fromEntries(
      [["one", "testing"], ["two", "one"], ["three", "two"]].flatMap(([op, imported]) => [
        [`kernels/${op}/${op}.def`, ""],
        [`kernels/${op}/cases.ts`, `import {} from "../${imported}/inputs.ts";`],
      ]),
    ),
  }, async (root, write) => {
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
