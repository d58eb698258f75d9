/** Tests how the studies' book is made from its eBook; the digest of the whole one is that of the committed studies. */
import { assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { withFolder } from "../commands/testing.ts";
import sources from "../commands/reproduce/data.json" with { type: "json" };
import { cutBook, makeBook } from "./texts.ts";

const EBOOK = [
  "\uFEFFHeader\r\n*** START OF THIS EBOOK ***\r\n\r\n\r\nA TALE\r\n\r\n     Chapter XVIII  Nine Days\r\n",
  "XVII. One Night\r\n\r\nThe end.\r\n\r\nXVIII. Nine Days\r\n\r\nMore.\r\n*** END OF THIS EBOOK ***\r\n",
].join("");

Deno.test("the studies' book is the eBook after its header, up to the heading of a chapter", () => {
  assertEquals(cutBook(EBOOK), "A TALE\n\n     Chapter XVIII  Nine Days\nXVII. One Night\n\nThe end.\n\n");
  assertEquals(cutBook("no eBook"), "");
});

Deno.test("an eBook of other contents is refused by the digest that the studies name", () =>
  withFolder(async (folder) => {
    const path = `${folder}/98-0.txt`;
    Deno.writeTextFileSync(path, EBOOK);
    const { message } = await assertRejects(() => makeBook(path), UsageError);
    assertEquals(
      message.replace(/[0-9a-f]{64}/, "…"),
      `Cannot use "${path}": found SHA-256 …, expected ${sources.book.sha256} of the recipe`,
    );
  }));

Deno.test("the committed studies were run on the texts of the recipes", async () => {
  const seen = new Set<string>();
  for (const path of ["comparison", "retrieval"]) {
    for await (const { name } of Deno.readDir(new URL(`${path}/results/`, import.meta.url))) {
      const found = Deno.readTextFileSync(new URL(`${path}/results/${name}`, import.meta.url));
      for (const [, digest] of found.matchAll(/"textSha256": ?"(\w+)"/g)) seen.add(digest!);
    }
  }
  assertEquals(seen, new Set([sources.wikitext2.sha256, sources.book.sha256]));
});
