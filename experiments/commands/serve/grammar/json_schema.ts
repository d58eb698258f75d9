/** JSON, and JSON that a schema describes, as grammars: what a text may be, in the order of the schema's properties. */
import { RefusedError } from "../messages.ts";
import { type Grammar, GrammarMaker } from "./grammar.ts";

type Schema = boolean | { readonly [key: string]: unknown };

/** Keys that describe, and restrict nothing. */
const NOTES = [
  ...["$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"],
  ...["deprecated", "readOnly", "writeOnly"],
];

/** Keys that restrict, by the type that they are about; all others are refused. */
const KEYS: { readonly [type: string]: readonly string[] } = {
  any: ["type", "enum", "const", "anyOf", "allOf", "$ref"],
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength"],
};

const KNOWN = new Set([...NOTES, ...Object.values(KEYS).flat()]);
const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;

/** Deepest nesting of JSON without a schema, and of schemas. */
const MOST_LEVELS = 32;

/** Digits of numbers before and behind the point: as many as a double keeps. */
const DIGITS = 15;

/** Spaces at the beginning of a line. */
const MOST_INDENT = 24;

class Maker {
  readonly maker = new GrammarMaker();
  readonly #root: Schema;

  constructor(root: Schema) {
    this.#root = root;
  }

  readonly #hex = this.maker.oneOf("0-9a-fA-F");

  /** Nothing, a space, or a new line with spaces. */
  readonly #gap = this.maker.any(
    this.maker.maybe(this.maker.text(" ")),
    this.maker.join(this.maker.text("\n"), this.maker.repeat(this.maker.text(" "), 0, MOST_INDENT)),
  );

  /** A character of a text in quotes: one of UTF-8 but quote, backslash and controls, or an escape but half a pair. */
  readonly #char = (() => {
    const { maker } = this,
      next = maker.oneOf("\x80-\xbf"),
      hex = this.#hex,
      then = (...parts: Grammar[]) => maker.join(...parts);
    const code = maker.any(
      then(maker.oneOf("0-9a-ce-fA-CE-F"), hex, hex, hex),
      then(maker.oneOf("dD"), maker.oneOf("0-7"), hex, hex),
    );
    return maker.any(
      maker.oneOf(" !#-[]-\x7f"),
      then(maker.oneOf("\xc2-\xdf"), next),
      then(maker.oneOf("\xe0"), maker.oneOf("\xa0-\xbf"), next),
      then(maker.oneOf("\xe1-\xec\xee-\xef"), next, next),
      then(maker.oneOf("\xed"), maker.oneOf("\x80-\x9f"), next),
      then(maker.oneOf("\xf0"), maker.oneOf("\x90-\xbf"), next, next),
      then(maker.oneOf("\xf1-\xf3"), next, next, next),
      then(maker.oneOf("\xf4"), maker.oneOf("\x80-\x8f"), next, next),
      then(maker.text("\\"), maker.any(maker.oneOf('"\\/bfnrt'), then(maker.text("u"), code))),
    );
  })();

  #string(least = 0, most = Infinity): Grammar {
    const { maker } = this;
    return maker.join(maker.text('"'), maker.repeat(this.#char, least, most), maker.text('"'));
  }

  #integer(): Grammar {
    const { maker } = this, digits = maker.repeat(maker.oneOf("0-9"), 0, DIGITS - 1);
    return maker.join(
      maker.maybe(maker.text("-")),
      maker.any(maker.text("0"), maker.join(maker.oneOf("1-9"), digits)),
    );
  }

  #number(): Grammar {
    const { maker } = this, digit = maker.oneOf("0-9");
    const fraction = maker.join(maker.text("."), maker.repeat(digit, 1, DIGITS));
    const exponent = maker.join(maker.oneOf("eE"), maker.maybe(maker.oneOf("+-")), maker.repeat(digit, 1, 2));
    return maker.join(this.#integer(), maker.maybe(fraction), maker.maybe(exponent));
  }

  /** Values in brackets, `least` to `most`, of which the first are given. */
  #array(first: readonly Grammar[], more: Grammar | undefined, least: number, most: number): Grammar {
    const { maker } = this, gap = this.#gap, comma = maker.join(maker.text(","), gap);
    const rest = (at: number): Grammar => {
      const item = at < first.length ? first[at] : more;
      if (item === undefined || at >= most) return maker.empty;
      // Past the given ones all are alike.
      const then = at < first.length
        ? maker.join(comma, item, rest(at + 1))
        : maker.repeat(maker.join(comma, item), Math.max(least - at, 0), most - at);
      return at < least || at >= first.length ? then : maker.maybe(then);
    };
    const begin = first[0] ?? more;
    const filled = begin === undefined || most === 0 ? maker.empty : maker.join(begin, rest(1), gap);
    const inner = least === 0 ? maker.maybe(filled) : filled;
    return maker.join(maker.text("["), gap, inner, maker.text("]"));
  }

  /** An object whose properties come in their order; those that are not required may be left out. */
  #object(properties: readonly (readonly [name: string, value: Grammar, isRequired: boolean])[]): Grammar {
    const { maker } = this, gap = this.#gap, known = new Map<string, Grammar>();
    const rest = (at: number, isFirst: boolean): Grammar => {
      const key = `${at},${isFirst}`, made = known.get(key), property = properties[at];
      if (made !== undefined) return made;
      if (property === undefined) return isFirst ? maker.empty : gap;
      const [name, value, isRequired] = property;
      const before = isFirst ? maker.empty : maker.join(maker.text(","), gap);
      const pair = maker.join(
        before,
        maker.text(`${JSON.stringify(name)}:`),
        gap,
        value,
        rest(at + 1, false),
      );
      const grammar = isRequired ? pair : maker.any(pair, rest(at + 1, isFirst));
      known.set(key, grammar);
      return grammar;
    };
    return maker.join(maker.text("{"), gap, rest(0, true), maker.text("}"));
  }

  /** An object of any names. */
  #map(value: Grammar): Grammar {
    const { maker } = this, gap = this.#gap;
    const pair = maker.join(this.#string(), maker.text(":"), gap, value);
    const more = maker.repeat(maker.join(maker.text(","), gap, pair), 0);
    return maker.join(maker.text("{"), gap, maker.maybe(maker.join(pair, more, gap)), maker.text("}"));
  }

  /** Any JSON of some levels. */
  any(levels = MOST_LEVELS): Grammar {
    const { maker } = this;
    return maker.named(`any ${levels}`, () => {
      const word = maker.any(...["true", "false", "null"].map((text) => maker.text(text)));
      const plain = maker.any(this.#string(), this.#number(), word);
      return levels === 0
        ? plain
        : maker.any(plain, this.anyObject(levels), this.#array([], this.any(levels - 1), 0, Infinity));
    });
  }

  anyObject(levels = MOST_LEVELS): Grammar {
    return this.maker.named(`object ${levels}`, () => this.#map(this.any(levels - 1)));
  }

  /** JSON of a schema. @param place Where it stands in the whole, for errors */
  of(schema: Schema, place: string, levels = 0): Grammar {
    const refuse = (what: string) =>
      new RefusedError(`Cannot use "response_format": ${what} at "${place || "#"}"`, "response_format");
    if (levels > MOST_LEVELS) throw refuse(`found more than ${MOST_LEVELS} levels`);
    if (schema === true) return this.any();
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
      throw refuse("found no schema that a text can meet");
    }
    const odd = Object.keys(schema).find((key) => !KNOWN.has(key));
    if (odd !== undefined) throw refuse(`found "${odd}", which this server does not have,`);
    const { maker } = this,
      inner = (schema: unknown, key: string) => this.of(schema as Schema, `${place}/${key}`, levels + 1);
    const list = (key: string): readonly unknown[] => {
      const value = schema[key];
      if (Array.isArray(value) && value.length > 0) return value;
      throw refuse(`found no list "${key}"`);
    };
    const alone = (key: string) => {
      const other = Object.keys(schema).find((name) => name !== key && !NOTES.includes(name));
      if (other !== undefined && other !== "type") {
        throw refuse(`found "${key}" beside "${other}", expected it alone,`);
      }
    };
    const count = (key: string, otherwise: number): number => {
      const value = schema[key] ?? otherwise;
      if (value === Infinity || Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
      throw refuse(`found ${JSON.stringify(value)} as "${key}"`);
    };
    if (schema["$ref"] !== undefined) {
      alone("$ref");
      return this.#reference(schema["$ref"], refuse);
    }
    if (schema["anyOf"] !== undefined) {
      alone("anyOf");
      return maker.any(...list("anyOf").map((each, i) => inner(each, `anyOf/${i}`)));
    }
    if (schema["allOf"] !== undefined) {
      alone("allOf");
      const [only, more] = list("allOf");
      if (more !== undefined) throw refuse('found several schemas in "allOf", expected one,');
      return inner(only, "allOf/0");
    }
    if (schema["const"] !== undefined) return maker.text(JSON.stringify(schema["const"]));
    if (schema["enum"] !== undefined) {
      return maker.any(...list("enum").map((value) => maker.text(JSON.stringify(value))));
    }
    const types = schema["type"] === undefined ? guessTypes(schema) : [schema["type"]].flat();
    if (types === undefined) return this.any();
    const byType: { readonly [type: string]: () => Grammar } = {
      string: () => {
        const least = count("minLength", 0), most = count("maxLength", Infinity);
        if (least > most) throw refuse("found a minLength above maxLength");
        return this.#string(least, most);
      },
      integer: () => this.#integer(),
      number: () => this.#number(),
      boolean: () => maker.any(maker.text("true"), maker.text("false")),
      null: () => maker.text("null"),
      array: () => {
        const given = schema["prefixItems"] === undefined ? [] : list("prefixItems");
        const first = given.map((each, i) => inner(each, `prefixItems/${i}`));
        const more = schema["items"] === false ? undefined : inner(schema["items"] ?? true, "items");
        const least = count("minItems", 0),
          most = count("maxItems", more === undefined ? first.length : Infinity);
        if (least > most || more === undefined && least > first.length) {
          throw refuse("found a minItems above maxItems");
        }
        return this.#array(first, more, least, most);
      },
      object: () => {
        const { properties = {}, required = [], additionalProperties: others } = schema;
        const names = Object.keys(Object(properties));
        if (!Array.isArray(required) || !required.every((name) => typeof name === "string")) {
          throw refuse('found no list "required"');
        }
        const lost = required.find((name) => !names.includes(name));
        if (lost !== undefined) throw refuse(`found "${lost}" required and not among the properties`);
        if (names.length === 0) {
          return others === false
            ? this.#object([])
            : this.#map(inner(others ?? true, "additionalProperties"));
        }
        // A text without further properties meets a schema that allows some.
        return this.#object(names.map((name) => {
          const value = inner(
            (properties as { readonly [name: string]: unknown })[name],
            `properties/${name}`,
          );
          return [name, value, required.includes(name)];
        }));
      },
    };
    const made = types.map((type) => {
      const make = Object.hasOwn(byType, String(type)) ? byType[String(type)] : undefined;
      if (make === undefined) {
        throw refuse(`found type ${JSON.stringify(type)}, expected some of ${TYPES.join(", ")},`);
      }
      return make();
    });
    return maker.any(...made);
  }

  #reference(to: unknown, refuse: (what: string) => RefusedError): Grammar {
    if (typeof to !== "string" || !/^#(\/|$)/.test(to)) {
      throw refuse(`found $ref ${JSON.stringify(to)}, expected one that begins with "#",`);
    }
    const path = to.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const found = path.reduce<unknown>(
      (at, part) => Object.hasOwn(Object(at), part) ? (at as Record<string, unknown>)[part] : undefined,
      this.#root,
    );
    if (found === undefined) throw refuse(`found nothing for $ref "${to}"`);
    return this.maker.named(`ref ${to}`, () => this.of(found as Schema, to.slice(2)));
  }
}

/** The types that a schema without a type is about. */
function guessTypes(schema: { readonly [key: string]: unknown }): string[] | undefined {
  const found = ["object", "array", "string"].filter((type) =>
    KEYS[type]!.some((key) => schema[key] !== undefined)
  );
  return found.length === 0 ? undefined : found;
}

/** Any JSON object. */
export const jsonObject = (): Grammar => new Maker(true).anyObject();

/**
 * JSON of a schema, whose properties come in its order. Numbers have at most 15 digits before and behind the point.
 *
 * @throws {RefusedError} If the schema has a part that restricts in a way that is not known here.
 */
export const jsonOf = (schema: unknown): Grammar => new Maker(schema as Schema).of(schema as Schema, "");
