/** `response_format` of requests, and the grammars that it asks for: kept, for the next request of the same one. */
import type { Tokenizer } from "../../../../lib/model/tokenizer/tokenizer.ts";
import { RefusedError } from "../messages.ts";
import { TokenMasks } from "./constraint.ts";
import { GrammarTooLarge } from "./grammar.ts";
import { jsonObject, jsonOf } from "./json_schema.ts";

/** Most characters of a schema, and most grammars that are kept. */
const MOST_SCHEMA = 2 ** 16, MOST_KEPT = 16;

const EXPECTED =
  '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": …}}';

export class Formats {
  readonly #tokenizer: Tokenizer;
  readonly #kept = new Map<string, TokenMasks>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /**
   * The tokens that a format allows; undefined where it is any text.
   *
   * @throws {RefusedError} If it is none, or its schema has a part that is not known here.
   */
  read(format: unknown): TokenMasks | undefined {
    if (format === undefined) return undefined;
    const { type, json_schema: named } = Object(format) as {
      readonly type?: unknown;
      readonly json_schema?: unknown;
    };
    if (type === "text") return undefined;
    const { schema } = Object(named) as { readonly schema?: unknown };
    if (type !== "json_object" && (type !== "json_schema" || schema === undefined)) {
      const found = JSON.stringify(format).slice(0, 80);
      throw new RefusedError(
        `Cannot use "response_format": found ${found}, expected ${EXPECTED}`,
        "response_format",
      );
    }
    const key = type === "json_object" ? "" : JSON.stringify(schema), known = this.#kept.get(key);
    if (known !== undefined) return known;
    if (key.length > MOST_SCHEMA) {
      const found = `found a schema of ${key.length} characters, expected at most ${MOST_SCHEMA}`;
      throw new RefusedError(`Cannot use "response_format": ${found}`, "response_format");
    }
    const made = new TokenMasks(type === "json_object" ? jsonObject() : makeOf(schema), this.#tokenizer);
    if (this.#kept.size >= MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    this.#kept.set(key, made);
    return made;
  }
}

function makeOf(schema: unknown) {
  try {
    return jsonOf(schema);
  } catch (error) {
    if (!(error instanceof GrammarTooLarge || error instanceof RangeError)) throw error;
    throw new RefusedError(`Cannot use "response_format": ${error.message}`, "response_format");
  }
}
