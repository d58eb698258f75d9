/** JSON as types, and copies of it. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** @internal An object of JSON. */
export type JsonObject = { readonly [key: string]: Json };

/** A copy of JSON whose texts are replaced; keys and lists of numbers stay as they are. */
export function mapTexts<T>(value: T, replace: (text: string) => string): T {
  if (typeof value === "string") return replace(value) as T;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    return (value.every((x) => typeof x === "number") ? value : value.map((x) => mapTexts(x, replace))) as T;
  }
  return Object.fromEntries(Object.entries(value).map(([key, x]) => [key, mapTexts(x, replace)])) as T;
}
