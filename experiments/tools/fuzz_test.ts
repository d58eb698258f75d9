import { assert, assertEquals } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../lib/testing.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { finish } from "../commands/testing.ts";
import { fuzz, KINDS } from "./fuzz/kinds_testing.ts";

Deno.test("no failure in a broken Parquet file is left to itself", async () => {
  // The 16th of these makes hyparquet fail in a column that it has begun, and then in the next one's place in the schema.
  assert((await fuzz("parquet", 20, 5, KINDS.parquet)).refused > 10);
});

for (const kind of ["chat template", "parquet"]) {
  Deno.test({
    ...unless(
      IN_SLOW_TIER,
      `broken files are read or refused in one line, in little time and memory: ${kind}`,
    ),
    async fn() {
      const { files, refused } = await fuzz(kind, 600, 1, KINDS[kind]);
      assert(refused > files / 10 && refused < files, `${refused} of ${files} refused`);
    },
  });
}

Deno.test({
  ...unless(IN_SLOW_TIER, "the fuzz reads files of each kind, and says what became of them"),
  async fn() {
    const args = [
      "run",
      "-A",
      ...await readStdFlags(),
      "experiments/tools/fuzz.ts",
      "--files",
      "90",
      "--seed",
      "7",
    ];
    const cwd = new URL("../../", import.meta.url), streams = { stdout: "piped", stderr: "piped" } as const;
    const { code, stdout, stderr } = await finish(
      new Deno.Command(Deno.execPath(), { args, cwd, ...streams }).spawn(),
    );
    assertEquals([code, stderr], [0, ""]);
    const lines = stdout.trim().split("\n").map((line) => line.replace(/, .*/, ""));
    assertEquals(lines, Object.keys(KINDS).map((kind) => `${kind}: 10 files`));
  },
});
