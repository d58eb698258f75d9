/** Tests how the studies' book is made from its eBook; the digest of the whole one is that of the committed studies. */
import { readdirSync } from "node:fs";
import { assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";
import { withFolder } from "../commands/testing.ts";
import sources from "../commands/reproduce/data.json" with { type: "json" };
import { cutBook, makeBook, makeMessages, unwrap } from "./texts.ts";

/** SHA-256 of the book, unwrapped. */
const UNWRAPPED = "94028b727c4d2431166f5c3b09b0f9b24b64f5b02de42a753aba20c62dae3c33";

const EBOOK = [
  "\uFEFFHeader\r\n*** START OF THIS EBOOK ***\r\n\r\n\r\nA TALE\r\n\r\n     Chapter XVIII  Nine Days\r\n",
  "XVII. One Night\r\n\r\nThe end.\r\n\r\nXVIII. Nine Days\r\n\r\nMore.\r\n*** END OF THIS EBOOK ***\r\n",
].join("");

Deno.test("the studies' book is the eBook after its header, up to the heading of a chapter", () => {
  assertEquals(cutBook(EBOOK), "A TALE\n\n     Chapter XVIII  Nine Days\nXVII. One Night\n\nThe end.\n\n");
  assertEquals(cutBook("no eBook"), "");
});

Deno.test("a text is unwrapped to a line for each paragraph, in ASCII", () => {
  assertEquals(unwrap("“It’s a\n  tale”—\n\n \n\nThe  end.\n\n"), '"It\'s a tale"--\nThe end.\n');
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

Deno.test("messages of other contents are refused by the digest that the studies name", () =>
  withFolder(async (folder) => {
    for (let year = 1901; year <= 1908; year++) {
      Deno.writeTextFileSync(`${folder}/${year}_theodore_roosevelt_r.txt`, `${year}`);
    }
    const { message } = await assertRejects(() => makeMessages(folder), UsageError);
    const text = "1901\n\n1902\n\n1903\n\n1904\n\n1905\n\n1906\n\n1907\n\n1908\n";
    assertEquals(
      message,
      `Cannot use "${folder}": found SHA-256 ${await sha256(
        text,
      )}, expected ${sources.messages.sha256} of the recipe`,
    );
  }));

Deno.test("the committed studies were run on the texts of the recipes", () => {
  const seen = new Set<string>();
  for (
    const path of ["comparison/results", "retrieval/results", "cheap_skips/results", "cheap_skips/findings"]
  ) {
    for (
      const name of readdirSync(new URL(`${path}/`, import.meta.url), { recursive: true, encoding: "utf8" })
    ) {
      if (!/\.json/.test(name)) continue;
      const found = Deno.readTextFileSync(new URL(`${path}/${name}`, import.meta.url));
      // Items that a task makes from a seed have no text of a recipe.
      for (const [, digest] of found.matchAll(/(?<!"made items", ?)"textSha256": ?"(\w+)"/g)) {
        seen.add(digest!);
      }
    }
  }
  const { wikitext2, book, messages, manual } = sources;
  assertEquals(
    seen,
    new Set([...[wikitext2, book, messages, manual].map(({ sha256 }) => sha256), UNWRAPPED]),
  );
});
