/** Grammars against `JSON.parse` and hand-written texts: what a schema allows, and nothing else. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Sampler } from "../../../../lib/model/mod.ts";
import { RefusedError } from "../messages.ts";
import { Constraint, TokenMasks } from "./constraint.ts";
import { type Grammar, GrammarMaker } from "./grammar.ts";
import { jsonObject, jsonOf } from "./json_schema.ts";

/** Whether a grammar has a text, whole. */
function has(grammar: Grammar, text: string): boolean {
  let at: Grammar | undefined = grammar;
  for (const byte of new TextEncoder().encode(text)) at = at?.step(byte);
  return at?.mayEnd === true;
}

Deno.test("GrammarMaker joins, chooses, repeats and names, and makes equal grammars once", () => {
  const maker = new GrammarMaker(), ab = maker.join(maker.text("a"), maker.maybe(maker.text("b")));
  assertEquals(["a", "ab", "abb", "b", ""].map((text) => has(ab, text)), [true, true, false, false, false]);
  const twice = maker.repeat(maker.oneOf("0-9"), 2, 3);
  assertEquals(["1", "12", "123", "1234"].map((text) => has(twice, text)), [false, true, true, false]);
  const nested: Grammar = maker.named(
    "nested",
    () => maker.any(maker.text("x"), maker.join(maker.text("("), nested, maker.text(")"))),
  );
  assertEquals(["x", "((x))", "((x)", "()"].map((text) => has(nested, text)), [true, true, false, false]);
  const endless: Grammar = maker.named("endless", () => maker.join(endless, maker.text("a")));
  assertEquals(has(endless, "a"), false);
  assertEquals(
    maker.any(maker.text("a"), maker.text("b")) === maker.any(maker.text("b"), maker.text("a")),
    true,
  );
});

Deno.test("jsonObject() has JSON objects, and nothing that JSON.parse refuses", () => {
  const grammar = jsonObject();
  const good = [
    "{}",
    '{"a": 1}',
    '{"a":[1,-2.5e+3,true,null,"\\u00e9\\n🦜"],"b":{"c":[]}}',
    '{\n  "a": [\n    0\n  ]\n}',
    '{"é":"日本"}',
  ];
  for (const text of good) assert(has(grammar, text) && JSON.parse(text), text);
  const bad = [
    "[]",
    '"a"',
    '{"a":01}',
    '{"a":1,}',
    "{'a':1}",
    '{"a":"\n"}',
    '{"a":tru}',
    '{"a":"\\ud800"}',
    '{"a":"\\x"}',
    "{a:1}",
    '{"a":.5}',
  ];
  for (const text of bad) assert(!has(grammar, text), text);
  const bytes = Uint8Array.of(0x7b, 0x22, 0xc0, 0x80); // {" and an overlong NUL
  assertEquals(bytes.reduce<Grammar | undefined>((at, byte) => at?.step(byte), grammar), undefined);
});

Deno.test("jsonOf() has what the schema describes: types, bounds, properties, choices, references", () => {
  const cases: [schema: unknown, good: string[], bad: string[]][] = [
    [{ type: "integer" }, ["0", "-12"], ["1.5", "01", "1e3", '"1"']],
    [{ type: ["string", "null"], maxLength: 2 }, ['""', '"é🦜"', "null"], ['"abc"', "1"]],
    [{ type: "string", minLength: 2 }, ['"ab"', '"\\u0041b"'], ['"a"']],
    [{ enum: ["a", 1, null] }, ['"a"', "1", "null"], ['"b"', "2"]],
    [{ const: { a: [1] } }, ['{"a":[1]}'], ["{}"]],
    [{ type: "array", items: { type: "boolean" }, minItems: 1, maxItems: 2 }, ["[true]", "[true, false]"], [
      "[]",
      "[true,true,true]",
    ]],
    [{ prefixItems: [{ const: 1 }, { const: 2 }], items: false }, ["[]", "[1]", "[1,2]"], ["[2]", "[1,2,3]"]],
    [{ anyOf: [{ type: "null" }, { type: "object", properties: {}, additionalProperties: false }] }, [
      "null",
      "{}",
    ], ['{"a":1}']],
    [{ type: "object", additionalProperties: { type: "integer" } }, ["{}", '{"a":1, "b":2}'], ['{"a":"b"}']],
    [
      {
        $defs: {
          node: {
            type: "object",
            properties: { v: { type: "integer" }, next: { $ref: "#/$defs/node" } },
            required: ["v"],
          },
        },
        $ref: "#/$defs/node",
      },
      ['{"v":1}', '{"v":1,"next":{"v":2}}'],
      ["{}", '{"next":{"v":1}}', '{"v":1,"v":1}'],
    ],
    [
      {
        properties: { a: { type: "integer" }, b: true, c: { type: "null" } },
        required: ["b"],
        type: "object",
      },
      ['{"b":[{}]}', '{"a":1,"b":2,"c":null}', '{\n  "b": 1\n}'],
      ["{}", '{"a":1}', '{"b":1,"a":1}', '{"b":1,"d":1}', '{"a":1,}'],
    ],
  ];
  for (const [schema, good, bad] of cases) {
    const grammar = jsonOf(schema), shown = JSON.stringify(schema);
    for (const text of good) {
      assert(has(grammar, text) && JSON.parse(text) !== undefined, `${shown} lacks ${text}`);
    }
    for (const text of bad) assert(!has(grammar, text), `${shown} has ${text}`);
  }
});

Deno.test("jsonOf() refuses parts that restrict in a way it does not know, and names them and their place", () => {
  const cases: [unknown, string][] = [
    [{ type: "integer", minimum: 1 }, 'found "minimum", which this server does not have, at "#"'],
    [
      { properties: { a: { type: "string", pattern: "a" } } },
      'found "pattern", which this server does not have, at "/properties/a"',
    ],
    [{ type: "text" }, 'found type "text"'],
    [{ anyOf: [] }, 'found no list "anyOf"'],
    [{ $ref: "#/$defs/none" }, 'found nothing for $ref "#/$defs/none"'],
    [{ $ref: "https://a/b" }, "expected one that begins with"],
    [{ required: ["a"], properties: {} }, 'found "a" required and not among the properties'],
    [false, "found no schema that a text can meet"],
    [{ type: "string", minLength: -1 }, 'found -1 as "minLength"'],
  ];
  for (const [schema, says] of cases) assertThrows(() => jsonOf(schema), RefusedError, says);
});

Deno.test("TokenMasks allow just the tokens whose bytes may come, whole", () => {
  const pieces = ["", "{", '{"', "{}", "}", '"a', '":1', "1", "12", "}}", "é", '"', "a", ":", " ", "\\"];
  const tokenizer = { vocabSize: pieces.length, bytes: (id: number) => new TextEncoder().encode(pieces[id]) };
  const masks = new TokenMasks(jsonOf({ type: "object", properties: { a: { type: "integer" } } }), tokenizer);
  const shown = (state: Grammar) => Array.from(masks.at(state), (id) => pieces[id]);
  assertEquals(shown(masks.grammar), ["{", '{"', "{}"]);
  const inside = masks.grammar.step(0x7b)!;
  assertEquals(shown(inside), ["}", '"a', '"', " "]);
  // Against each token by itself.
  for (
    let state: Grammar | undefined = masks.grammar, text = '{"a": 1}', i = 0;
    state !== undefined;
    state = state.step(text.charCodeAt(i++))
  ) {
    const alone = pieces.filter((_, id) => {
      const bytes = tokenizer.bytes(id);
      return bytes.length > 0 &&
        bytes.reduce<Grammar | undefined>((at, byte) => at?.step(byte), state) !== undefined;
    });
    assertEquals(shown(state), alone);
  }
});

Deno.test("Constraint draws among the tokens that may come as often as their probabilities say", () => {
  // Of three tokens the likeliest may not come.
  const pieces = ["0", "1", "x"],
    tokenizer = { vocabSize: 3, bytes: (id: number) => new TextEncoder().encode(pieces[id]) };
  const masks = new TokenMasks(jsonOf({ enum: [0, 1] }), tokenizer),
    logits = Float32Array.of(Math.log(0.2), Math.log(0.1), Math.log(0.7));
  const counts = [0, 0, 0], sampler = new Sampler({ temperature: 1, samplingSeed: 7n });
  for (let step = 0; step < 6000; step++) {
    counts[new Constraint(masks, tokenizer).next(sampler, logits, step, new Set())]!++;
  }
  assert(Math.abs(counts[0]! / 6000 - 2 / 3) < 0.02 && counts[2] === 0, `${counts}`);
  const greedy = new Constraint(masks, tokenizer);
  assertEquals([greedy.next(new Sampler(), logits, 0, new Set()), greedy.isWhole], [0, true]);
});
