/** The whole list of parts that may differ between two runs of the same commit, with their replacements. */

/** Keys of JSON documents whose values vary: times, memory, versions, the machine. */
const VARYING_KEYS = [
  "timeMs",
  "denseTimeMs",
  "peakMemoryBytes",
  "startedAt",
  "finishedAt",
  "deno",
  "platform",
];

/** Pieces of texts that vary. */
const VARYING_TEXT: readonly (readonly [RegExp, string])[] = [
  [/^(Download|Initialize) .*\n/gm, ""], // Deno obtains a package
  [/^ +at .*\n/gm, ""], // a stack trace: files and lines
  [/\b\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\d(\.\d+)?Z?/g, "<time>"],
  [/\b\d{4}-\d\d-\d\d \d\d:\d\d UTC/g, "<time>"],
  [/\b(\d+ h )?(\d+ min )?\d+ s left/g, "<duration> left"],
  [/^(.*\S) +time\n(.*-) +-+$/gm, "$1  time\n$2  ----"], // head and rule of a table with a column of times
  [/^(.*\d%)( \|)? +\d+%$/gm, "$1$2 <time>"], // a row of it
  [new RegExp(`"(${VARYING_KEYS.join("|")})": ("[^"]*"|[\\d.]+)`, "g"), '"$1": <varies>'],
];

/** Texts that differ from digest to digest, such as folders, and their names in it. */
export type Names = readonly (readonly [text: string, name: string])[];

/** A text without its varying parts. */
export function normalizeText(text: string, names: Names): string {
  for (const [own, name] of names) text = text.replaceAll(own, name);
  for (const [pattern, stand] of VARYING_TEXT) text = text.replaceAll(pattern, stand);
  return text;
}

/** A JSON document without its varying parts. */
export function normalizeJson(value: unknown, names: Names): unknown {
  if (typeof value === "string") return normalizeText(value, names);
  if (Array.isArray(value)) return value.map((item) => normalizeJson(item, names));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) =>
      VARYING_KEYS.includes(key) ? [key, "<varies>"] : [key, normalizeJson(item, names)]
    ),
  );
}
