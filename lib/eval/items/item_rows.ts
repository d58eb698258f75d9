/** Rows of a JSONL file of items, checked as they are read: an error names file, line and expected content. */
import { sayNearest } from "../../nearest.ts";

/** @internal One line of a file. */
export class ItemRow {
  /** File and line, as messages name them. */
  readonly place: string;
  readonly #fields: { readonly [name: string]: unknown };

  constructor(place: string, fields: { readonly [name: string]: unknown }) {
    this.place = place;
    this.#fields = fields;
  }

  toJSON(): { readonly [name: string]: unknown } {
    return this.#fields;
  }

  error(what: string): RangeError {
    return new RangeError(`Cannot read ${this.place}: ${what}`);
  }

  /** A text that is not empty. @throws {RangeError} If the field is none. */
  text(name: string): string {
    const value = this.#field(name);
    if (typeof value === "string" && value !== "") return value;
    throw this.error(`found ${show(value)} for "${name}", expected a text that is not empty`);
  }

  /** A text, empty or not. @throws {RangeError} If the field is none. */
  anyText(name: string): string {
    const value = this.#field(name);
    if (typeof value === "string") return value;
    throw this.error(`found ${show(value)} for "${name}", expected a text`);
  }

  /** An object within the row. @throws {RangeError} If the field is none. */
  part(name: string): ItemRow {
    const value = this.#field(name);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return new ItemRow(this.place, value as { [name: string]: unknown });
    }
    throw this.error(`found ${show(value)} for "${name}", expected an object`);
  }

  /** One of some texts. @throws {RangeError} If the field is none of them. */
  oneOf<T extends string>(name: string, known: readonly T[]): T {
    const text = this.text(name), found = known.find((value) => value === text);
    if (found !== undefined) return found;
    throw this.error(
      `found ${show(text)} for "${name}", expected one of ${known.join(", ")}${sayNearest(text, known)}`,
    );
  }

  /** A list of texts, none of them empty. @throws {RangeError} If the field is none, or too short. */
  texts(name: string, least: number, most = Infinity): string[] {
    const value = this.#field(name);
    if (!Array.isArray(value) || !(value.length >= least && value.length <= most)) {
      const count = least === most ? least : `${least} or more`;
      throw this.error(`found ${show(value)} for "${name}", expected a list of ${count} texts`);
    }
    const wrong = value.findIndex((part) => typeof part !== "string" || part === "");
    if (wrong < 0) return value;
    throw this.error(
      `found ${show(value[wrong])} at ${wrong} of "${name}", expected a text that is not empty`,
    );
  }

  /** An index into a list of `count`. @throws {RangeError} If the field is none. */
  index(name: string, count: number): number {
    const value = this.#field(name);
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < count) return value;
    throw this.error(
      `found ${show(value)} for "${name}", expected the index of one of ${count} choices, 0 to ${count - 1}`,
    );
  }

  #field(name: string): unknown {
    if (Object.hasOwn(this.#fields, name)) return this.#fields[name];
    throw this.error(
      `found no "${name}", expected it next to ${Object.keys(this.#fields).join(", ") || "nothing"}`,
    );
  }
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= 60 ? text : `${text.slice(0, 57)}…`;
}

/**
 * Reads the rows of a JSONL file: an object a line, each with an `id` of its own.
 *
 * @param file Name of the file, for messages.
 * @throws {RangeError} If a line is no JSON object, two have one id, or there is none.
 *
 * @example
 * ```ts
 * const [row] = readItemRows("a.jsonl", '{"id": "1", "gold": 1}\n');
 * console.assert(row!.index("gold", 2) === 1 && row!.place === '"a.jsonl", line 1');
 * ```
 */
export function readItemRows(file: string, text: string): ItemRow[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const places = new Map<string, string>();
  const rows = lines.map((line, i) => {
    const place = `"${file}", line ${i + 1}`;
    let fields: unknown;
    try {
      fields = JSON.parse(line);
    } catch (error) {
      throw new RangeError(`Cannot read ${place}: it is not JSON: ${(error as Error).message}`);
    }
    if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
      throw new RangeError(`Cannot read ${place}: found ${show(fields)}, expected an object`);
    }
    const row = new ItemRow(place, fields as { [name: string]: unknown }), id = row.text("id");
    const before = places.get(id);
    if (before !== undefined) throw row.error(`found the id ${show(id)} of ${before}, expected another`);
    places.set(id, place);
    return row;
  });
  if (rows.length > 0) return rows;
  throw new RangeError(`Cannot read "${file}": found no line, expected an item a line`);
}
