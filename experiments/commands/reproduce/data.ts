/** The texts of recipes: from a folder or from the hub at a pinned commit, with the digest that the recipe asks for. */
import { fileURLToPath } from "node:url";
import { parquetReadObjects } from "hyparquet";
import { UsageError } from "../../../lib/errors.ts";
import { obtainDataset } from "../../../lib/model/hub/repository.ts";
import type { HubOptions } from "../../../lib/model/hub/request.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readBytes, readJson } from "../cli/files.ts";
import { HUB } from "../task/data.ts";
import { readParquet } from "../cli/parquet.ts";
import type { NamedText } from "../cli/flags/text.ts";

/** A text: the file of a folder, and the same on the hub. */
interface TextSource {
  readonly file: string;
  /** Form of the file: plain text, or lines of JSON in gzip of which the first documents are joined by spaces. */
  readonly form: "text" | "wikitext" | "c4";
  /** SHA-256 of the text; left out where only the hub's own digests are known. */
  readonly sha256?: string;
  readonly documents?: number;
  /** The script that makes the file; left out where the hub has it. */
  readonly maker?: string;
  readonly hub?: { readonly repository: string; readonly revision: string; readonly file: string };
}

/** A text made of another one: rows of the hub's data set, joined. */
interface JoinedText {
  readonly of: string;
  readonly join: string;
}

const SOURCES = await readJson(fileURLToPath(new URL("data.json", import.meta.url))) as {
  readonly [name: string]: TextSource | JoinedText;
};

/** Whether a text has a digest that a folder's file is compared with; the hub's files have their own. */
export function hasDigest(name: string): boolean {
  const source = SOURCES[name]!;
  return "of" in source ? hasDigest(source.of) : source.sha256 !== undefined;
}

/** A line of the original file is a row of the hub's data set, where a blank one is empty. */
export const rowsOf = (text: string) =>
  text.split("\n").slice(0, -1).map((line) => line === " " ? "" : `${line}\n`);
const linesOf = (rows: readonly string[]) => rows.map((row) => row === "" ? " \n" : row).join("");

/** Source of a text, in words. */
export function describeText(name: string, folder: string | undefined): string {
  const source = SOURCES[name]!;
  if ("of" in source) return describeText(source.of, folder);
  const { file, hub } = source;
  if (folder !== undefined && folder !== HUB) return `${folder}/${file}`;
  return hub === undefined ? `--data DIR with ${file}` : `${hub.repository}@${hub.revision.slice(0, 7)}`;
}

/**
 * Reads a text of a recipe.
 *
 * @param folder A folder with its file, or `hub`.
 * @throws {UsageError} If it is unavailable, or has another digest.
 */
export async function readRecipeText(
  name: string,
  folder: string,
  options: HubOptions = {},
): Promise<NamedText> {
  const source = SOURCES[name];
  if (source === undefined) throw new UsageError(`Cannot find text "${name}" of the recipe in data.json`);
  if ("of" in source) {
    const { name, text } = await readRecipeText(source.of, folder, options);
    return { name, text: rowsOf(text).join(source.join) };
  }
  return await readSource(source, folder, options);
}

/** Reads a text by its source; throws as {@linkcode readRecipeText}. */
export async function readSource(
  source: TextSource,
  folder: string,
  options: HubOptions,
): Promise<NamedText> {
  const { file, sha256: expected } = source;
  const { text, place } = folder === HUB
    ? await readFromHub(source, options)
    : { text: await readForm(source, await readBytes(`${folder}/${file}`)), place: `${folder}/${file}` };
  if (expected !== undefined) await expectDigest(place, text, expected);
  return { name: file, text };
}

/** @throws {UsageError} If a text, which came from a place, has another digest. */
export async function expectDigest(place: string, text: string, expected: string): Promise<void> {
  const found = await sha256(text);
  if (found === expected) return;
  throw new UsageError(`Cannot use "${place}": found SHA-256 ${found}, expected ${expected} of the recipe`);
}

async function readFromHub(source: TextSource, options: HubOptions) {
  const { hub, file, maker } = source;
  if (hub === undefined) {
    const hint = maker === undefined ? "" : `; ${maker} makes it`;
    throw new UsageError(`Cannot find ${file} on the hub: expected --data DIR with it${hint}`);
  }
  const { repository, revision } = hub;
  const [path] = await obtainDataset(repository, revision, [hub.file], options);
  return { text: await readForm(source, await readBytes(path!)), place: `${repository}/${hub.file}` };
}

const PARQUET = new TextEncoder().encode("PAR1");

/** The text of a file in one of the forms. */
async function readForm({ form, documents }: TextSource, bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (PARQUET.every((byte, i) => bytes[i] === byte)) {
    const rows = await readParquet(bytes, parquetReadObjects) as { readonly text: string }[];
    return linesOf(rows.map(({ text }) => text));
  }
  if (form !== "c4") return new TextDecoder().decode(bytes);
  const plain = new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  const lines = (await plain.text()).split("\n").slice(0, documents);
  return lines.map((line) => (JSON.parse(line) as { readonly text: string }).text).join(" ");
}
