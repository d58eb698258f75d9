/** A digest as JSON whose lines are short enough to be read, and to be compared line by line. */
import type { Digest } from "./compare.ts";

const WIDTH = 160;

/** The file's text. */
export function formatDigest(digest: Digest): string {
  return `${format(digest, "")}\n`;
}

function format(value: unknown, indent: string): string {
  const flat = JSON.stringify(value);
  if (typeof value !== "object" || value === null || indent.length + flat.length <= WIDTH && indent !== "") {
    return flat;
  }
  const deeper = `${indent} `, isList = Array.isArray(value);
  const items = Object.entries(value).map(([key, item]) =>
    `${deeper}${isList ? "" : `${JSON.stringify(key)}: `}${format(item, deeper)}`
  );
  const [open, close] = isList ? "[]" : "{}";
  return `${open}\n${items.join(",\n")}\n${indent}${close}`;
}
