/**
 * Makes the texts of the studies, with the digests of the recipes: wikitext2-test.txt from the hub's rows, and
 * book-long.txt from Project Gutenberg's eBook no. 98, the file 98-0.txt of GITenberg/A-Tale-of-Two-Cities_98 at 0f6111bc.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/texts.ts 98-0.txt DATA
 */
import { UsageError } from "../../lib/errors.ts";
import { makeFolder, readText, writeWhole } from "../commands/cli/files.ts";
import { EXIT, runTask } from "../commands/cli/task.ts";
import { expectDigest, readRecipeText } from "../commands/reproduce/data.ts";
import { HUB } from "../commands/task/data.ts";
import sources from "../commands/reproduce/data.json" with { type: "json" };

const USAGE = "Usage: texts.ts 98-0.txt DATA";

/** The text of the eBook to the end of Book the Second, chapter XVII, without the header. */
export const cutBook = (ebook: string): string =>
  /^\*\*\* START OF .*\n+([^]*)^XVIII\. Nine Days$/m.exec(ebook.replaceAll("\r\n", "\n"))?.[1] ?? "";

/** The book of the studies. @throws {UsageError} If the file is another one. */
export async function makeBook(path: string): Promise<string> {
  const text = cutBook(await readText(path));
  await expectDigest(path, text, sources.book.sha256);
  return text;
}

async function main([path, folder]: readonly string[]): Promise<number> {
  if (path === undefined || folder === undefined) throw new UsageError(`Cannot make the texts: ${USAGE}`);
  const book = await makeBook(path);
  makeFolder(folder);
  await writeWhole(`${folder}/book-long.txt`, book);
  const { name, text } = await readRecipeText("wikitext2", HUB);
  await writeWhole(`${folder}/${name}`, text);
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
