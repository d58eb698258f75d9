import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { chooseNotebooks, describeTimes, main } from "./notebooks.ts";
import { IN_SLOW_TIER, unless } from "../../lib/testing.ts";
import { finish, listFolder, runTask, withFolder } from "../commands/testing.ts";

const known = ["01_quickstart", "02_anatomy", "03_variance_fusion"];

Deno.test("chooseNotebooks() takes beginnings, paths and nothing", () => {
  assertEquals(chooseNotebooks(known, []), known);
  assertEquals(chooseNotebooks(known, ["03", "01_quick"]), ["01_quickstart", "03_variance_fusion"]);
  assertEquals(chooseNotebooks(known, ["notebooks/02_anatomy.ipynb", "02"]), ["02_anatomy"]);
  assertThrows(() => chooseNotebooks(known, ["anatomy"]), UsageError, '"02_anatomy"');
});

Deno.test("notebooks takes names beside its flags", async () => {
  await assertRejects(() => main(["01", "--repeat", "0"]), UsageError, "--repeat 0");
});

Deno.test("describeTimes() gives one time in words, and of several the median and the longest", () => {
  assertEquals(describeTimes([]), "no run finished");
  assertEquals([[59.94], [60.5]].map(describeTimes), ["59.9 s", "1 min 1 s"]);
  assertEquals(describeTimes([7, 1.25, 3]), "3 runs, median 3.0 s, longest 7.0 s");
  assertEquals(describeTimes([2, 1, 70, 3]), "4 runs, median 3.0 s, longest 70.0 s");
});

const WRONG: readonly [args: string[], says: string][] = [
  [["--repeat", "0"], "--repeat 0"],
  [["--repeat", "two"], "--repeat two"],
  [["--reapet"], "--repeat"],
  [["--update=yes"], "--update"],
  [["--out", ""], "--out"],
  [["--model", "missing.gguf"], "missing.gguf"],
  [["--update", "--model", "smollm2-135m"], "tiny"],
  [["no_such"], "no_such"],
];
for (const [args, says] of WRONG) {
  Deno.test(`main() refuses ${args.join(" ")} in one line that names it`, async () => {
    const { message } = await assertRejects(() => main(["--quiet", ...args]), UsageError);
    assertStringIncludes(message, says);
    assertEquals(message.includes("\n"), false);
  });
}

Deno.test("deno task notebooks leaves with exit code 2 where it refuses", async () => {
  const { code, stdout, stderr } = await runTask("notebooks", "no_such");
  assertEquals([code, stdout], [2, ""]);
  assertEquals(stderr.trim().split("\n").length, 1);
});

Deno.test({
  ...unless(
    IN_SLOW_TIER, // execute_test.ts and static_checks_test.ts run and check small ones
    "deno task notebooks --check passes a notebook as it is kept, and leaves no temporary files",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const { code, stderr } = await finish(
        new Deno.Command(Deno.execPath(), {
          args: [
            "run",
            "-A",
            "--no-check",
            "experiments/tools/notebooks.ts",
            "--check",
            "01",
          ],
          cwd: new URL("../../", import.meta.url),
          env: { TMPDIR: folder },
          stdout: "piped",
          stderr: "piped",
        }).spawn(),
      );
      assertEquals([code, listFolder(folder)], [0, []], stderr);
    }),
});

Deno.test("deno task notebooks --help says how", async () => {
  const { code, stdout } = await runTask("notebooks", "--help");
  assertEquals(code, 0);
  assertStringIncludes(stdout, "Usage: deno task notebooks");
});
