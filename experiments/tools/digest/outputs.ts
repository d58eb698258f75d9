/** Facets of a run's results: exit code, streams and files. */
import { parquetMetadata, parquetRead } from "hyparquet";
import type { Finished } from "../../commands/testing.ts";
import { type Names, normalizeJson, normalizeText } from "./normalize.ts";
import { type Facet, hash, summarizeJson, summarizeText } from "./summarize.ts";

/** Facets by name. */
export type Facets = { [facet: string]: Facet };

/** Facets of a run. If they equal those of an earlier run, only its name. */
export function withoutRepeats(facets: Facets): Facets {
  const seen = new Map<string, string>();
  return Object.fromEntries(
    Object.entries(facets).map(([name, facet]) => {
      const text = JSON.stringify(facet), earlier = seen.get(text);
      if (text.length > 200 && earlier !== undefined) return [name, `as ${earlier}`];
      seen.set(text, name);
      return [name, facet];
    }),
  );
}

/** Facets of a process. A stdout of JSON is taken apart as such. */
export function facetsOfProcess({ code, stdout, stderr }: Finished, names: Names): Facets {
  const facets: Facets = { code };
  const errors = normalizeText(stderr, names);
  if (errors !== "") facets.stderr = summarizeText(errors);
  if (stdout === "") return facets;
  if (/^[[{]/.test(stdout)) facets.stdout = summarizeJson(normalizeJson(JSON.parse(stdout), names));
  else facets.stdout = summarizeText(normalizeText(stdout, names));
  return facets;
}

/** Facets of a file, or of all files of a folder. */
export async function facetsOfPath(path: string, names: Names): Promise<Facets> {
  if (!Deno.statSync(path).isDirectory) return await facetsOfFile(path, names, "");
  const files = [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  const contents = await Promise.all(files.map((file) => facetsOfFile(`${path}/${file}`, names, file)));
  return Object.assign({ files }, ...contents);
}

/** Facets of a file, with a prefix in their names; none for a file of unknown kind. */
async function facetsOfFile(path: string, names: Names, prefix: string): Promise<Facets> {
  const content = await contentOfFile(path, names);
  return Object.fromEntries(
    Object.entries(content).map((
      [part, facet],
    ) => [[prefix, part].filter((word) => word !== "").join(": "), facet]),
  );
}

async function contentOfFile(path: string, names: Names): Promise<Facets> {
  const read = async () => await Deno.readTextFile(path);
  const json = (text: string) => normalizeJson(JSON.parse(text), names);
  if (path.endsWith(".json")) return { "": summarizeJson(json(await read())) };
  if (path.endsWith(".jsonl")) {
    return { "": summarizeJson((await read()).trimEnd().split("\n").map(json)) };
  }
  if (path.endsWith(".html")) return facetsOfPage(await read(), names);
  if (path.endsWith(".parquet")) return await facetsOfParquet(path, names);
  return {};
}

/** The visible text of a page, and the data of its figures. Scripts and styles are left out. */
function facetsOfPage(html: string, names: Names): Facets {
  const facets: Facets = {};
  const figures = html.match(/<script type="application\/json" id="figures">(.*?)<\/script>/s)?.[1];
  const visible = html.replaceAll(/<(script|style)\b.*?<\/\1>/gs, "").replaceAll(
    /<svg\b.*?<\/svg>/gs,
    "<svg>",
  )
    .replaceAll(/\s*<\/t[dh]>\s*<t[dh]\b/g, " | <td").replaceAll(/<\/?(b|i|a|code|span|t[dh])\b[^>]*>/g, "")
    .replaceAll(/<[^>]*>/g, "\n").replaceAll("&quot;", '"').replaceAll(/\s*\n\s*/g, "\n").trim();
  facets.text = summarizeText(normalizeText(visible, names), 1500);
  for (const [i, figure] of (figures === undefined ? [] : JSON.parse(figures)).entries()) {
    facets[`figure ${i}`] = summarizeFigure(normalizeJson(figure, names));
  }
  return facets;
}

function summarizeFigure(figure: unknown): Facet {
  const { data, ...rest } = figure as { data: readonly unknown[] };
  const numbers: number[] = [], words: unknown[] = [];
  const collect = (value: unknown): void => {
    if (typeof value === "number") numbers.push(value);
    else if (typeof value === "object" && value !== null) Object.values(value).forEach(collect);
    else words.push(value);
  };
  collect(data);
  return {
    traces: data.length,
    ...summarizeJson({ numbers }),
    words: `${words.length} ${hash(JSON.stringify(words))}`,
    rest: hash(JSON.stringify(rest)),
  };
}

/** Columns and metadata of a Parquet file. */
async function facetsOfParquet(path: string, names: Names): Promise<Facets> {
  const file = (await Deno.readFile(path)).buffer;
  const metadata = parquetMetadata(file);
  const columns = new Map<string, unknown[]>();
  await parquetRead({
    file,
    metadata,
    onChunk: ({ columnName, columnData }) => {
      if (!columns.has(columnName)) columns.set(columnName, []);
      for (const value of columnData) columns.get(columnName)!.push(value);
    },
  });
  const notes = Object.fromEntries(
    (metadata.key_value_metadata ?? []).map(({ key, value }) => [key, JSON.parse(value ?? "null")]),
  );
  return {
    columns: summarizeJson(Object.fromEntries(columns)),
    metadata: summarizeJson(normalizeJson(notes, names)),
  };
}
