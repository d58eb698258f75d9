/** Tests texts of recipes: from a hub in the form of the real one, and from a folder, with the same digest. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { parquetWriteBuffer } from "hyparquet-writer";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { withHub } from "../hub_testing.ts";
import { withFolder } from "../testing.ts";
import { readSource, rowsOf } from "./data.ts";

/** A text as WikiText's own file has it, and its rows as the hub has them. */
const TEXT = " \n = A title = \n \n One line . \n \n Another one . \n";
const ROWS = ["", " = A title = \n", "", " One line . \n", "", " Another one . \n"];
const COMMIT = "b".repeat(40);

const gzip = async (text: string) =>
  new Uint8Array(
    await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer(),
  );

/** A data set of one file. */
const hubOf = (file: string, bytes: Uint8Array<ArrayBuffer>) =>
  new Map([[`datasets/own/texts@${COMMIT}/${file}`, bytes]]);

Deno.test("a text of a recipe is the same from the hub's rows and from a folder, or it is refused", async () => {
  const parquet = new Uint8Array(
    parquetWriteBuffer({ columnData: [{ name: "text", data: ROWS, type: "STRING" }] }),
  );
  const hub = { repository: "own/texts", revision: COMMIT, file: "raw/test.parquet" };
  const source = { file: "wiki.txt", form: "wikitext" as const, sha256: await sha256(TEXT), hub };
  await withHub(hubOf("raw/test.parquet", parquet), (options) =>
    withFolder(async (folder) => {
      assertEquals(await readSource(source, "hub", options), { name: "wiki.txt", text: TEXT });
      Deno.writeTextFileSync(`${folder}/wiki.txt`, TEXT);
      assertEquals((await readSource(source, folder, {})).text, TEXT);
      // Rows joined by blank lines, as GPTQ's protocol has them.
      assertEquals(rowsOf(TEXT), ROWS);
      Deno.writeTextFileSync(`${folder}/wiki.txt`, `${TEXT} `);
      const { message } = await assertRejects(() => readSource(source, folder, {}), UsageError);
      assertStringIncludes(message, `Cannot use "${folder}/wiki.txt": found SHA-256 `);
      assertStringIncludes(message, `expected ${source.sha256} of the recipe`);
      const other = { ...source, sha256: "0".repeat(64) };
      await assertRejects(() => readSource(other, "hub", options), UsageError, "own/texts/raw/test.parquet");
      const { hub: _, ...local } = source;
      const made = { ...local, maker: "a script" };
      const hint = "expected --data DIR with it; a script makes it";
      await assertRejects(() => readSource(made, "hub", options), UsageError, hint);
    }));
});

Deno.test("documents in gzip are joined by spaces, the first ones alone", async () => {
  const lines = ["one", "two", "three"].map((text) => JSON.stringify({ text, url: "" })).join("\n");
  const hub = { repository: "own/texts", revision: COMMIT, file: "c4.json.gz" };
  const source = { file: "c4.json.gz", form: "c4" as const, documents: 2, hub };
  await withHub(hubOf("c4.json.gz", await gzip(lines)), async (options) => {
    assertEquals((await readSource(source, "hub", options)).text, "one two");
  });
});
