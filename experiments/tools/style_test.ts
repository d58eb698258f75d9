import { assert, assertEquals } from "@std/assert";
import { findStyleFaults, meanSentence, RETIRED_TERMS, RULE_NAMES, STYLE_RULES } from "./style.ts";
import { readStyledSource } from "./style/sources.ts";
import { reportFaults } from "./style/tree.ts";

/** A sentence that breaks a rule, and one with the same content that keeps all. */
const PLANTED: readonly (readonly [rule: string, wrong: string, right: string])[] = [
  [
    "R1",
    "The loss is what a token costs and the table has one row of it for each of the methods that were run on the text and also " +
    "for the three seeds of the random one and for the oracle.",
    "The table has one row per method and seed.",
  ],
  [
    "R1",
    "The sum is exact, since it is in float64, so that it does not drift.",
    "The sum is exact: it is in float64.",
  ],
  ["R2", "It costs 0.03 nats a token.", "It costs 0.03 nats per token."],
  ["R2", "A state takes 1.2 KB a layer.", "A state takes 1.2 KB per layer."],
  ["R3", "The two rules are not told apart.", "There is no significant difference between the two rules."],
  ["R4", "Keys alone are read.", "Only keys are read."],
  ["R5", "A mean is used in place of the value.", "A mean is used instead of the value."],
  ["R5", "The method stands beside its baseline.", "The method is shown with its baseline."],
  ["R6", "It learns what comes after the block.", "It learns the later tokens."],
  ["R7", "A token's key and value are gone.", "A token's key and value are evicted."],
  ["R8", "Whoever is free makes the next proposal.", "An idle process makes the next proposal."],
  ["R8", "The worker who claims a trial runs it.", "The worker that claims a trial runs it."],
  ["R9", "The file says which layers are read.", "The file lists the layers that are read."],
  ["R10", "Scores are held to kvpress.", "Scores are tested against kvpress."],
  ["R11", "Weights are made float and turned about.", "Weights are dequantized and transposed."],
  ["R12", "Of those that decide alike one runs.", "Equivalent configurations run once."],
  ["R13", "Until then the preset had another window.", "The preset has a window of 96."],
  ["R13", "The build takes some 40 s.", "The build takes about 40 s."],
];

const faultsOf = (text: string, more: { readonly markdown?: boolean; readonly log?: boolean } = {}) =>
  findStyleFaults([{ name: "page.md", text, ...more }]);

for (const [rule, wrong, right] of PLANTED) {
  Deno.test(`${rule} finds "${wrong.slice(0, 40)}"`, () => {
    assert(faultsOf(wrong).some((fault) => fault.rule === rule), "not found");
    assertEquals(faultsOf(right), []);
  });
}

Deno.test("every rule has a planted fault", () => {
  const planted = new Set(PLANTED.map(([rule]) => rule));
  assertEquals([...planted], Array.from({ length: 13 }, (_, i) => `R${i + 1}`));
  assertEquals(new Set(STYLE_RULES.map(({ rule }) => rule)), planted);
});

/** A use of each retired term, in their order. */
const TERMS = [
  ...[
    "the best rival",
    "better than chance",
    "nats above dense",
    "rows held",
    "the same share",
    "MoD in style",
  ],
  ...[
    "keys are judged",
    "the oracle looks ahead",
    "layers that recall",
    "0.9 of the roof",
    "queries as published",
  ],
  ...["dNLL and KV held", "score --products bf16"],
];

Deno.test("every retired term is found, but in lab notes", () => {
  assertEquals(TERMS.length, RETIRED_TERMS.length);
  for (const [i, text] of TERMS.entries()) {
    const [, advice] = RETIRED_TERMS[i]!;
    assert(faultsOf(text).some((fault) => fault.rule === "terms" && fault.advice === advice), text);
    assertEquals(faultsOf(text, { log: true }).filter(({ rule }) => rule === "terms"), [], text);
  }
});

Deno.test("Markdown: code, links, intervals and generated parts are no words; cells, items and headings are texts", () => {
  const page = [
    "# What is measured",
    "",
    "It loses 0.03 [0.02, 0.04] by `in place of` ([a page](beside.md)).",
    "- One item",
    "- another alone",
    "",
    "```sh",
    "in place of code",
    "```",
    "<!-- of a script: begin -->",
    "rows held",
    "<!-- of a script: end -->",
    "| name | told apart |",
    "| --- | --- |",
  ].join("\n");
  assertEquals(
    faultsOf(page, { markdown: true }).map(({ place, rule }) => `${place} ${rule}`),
    ["page.md:5 R4", "page.md:13 R3"],
  );
  const [{ text, ...rest }] = [{ name: "page.md", text: page, markdown: true, tables: false }] as const;
  assertEquals(findStyleFaults([{ text, ...rest }]).map(({ place }) => place), ["page.md:5"]);
  assertEquals(meanSentence([{ name: "page.md", text: page, markdown: true }]), (7 + 2 + 2) / 3);
});

Deno.test("a sentence may have 35 words, and no more", () => {
  const words = (count: number) => Array.from({ length: count }, (_, i) => `Word${i}`).join(" ");
  assertEquals(faultsOf(`${words(35)}. ${words(35)}.`), [], "two sentences");
  assertEquals(faultsOf(`${words(36)}.`).map(({ rule }) => rule), ["R1"]);
});

Deno.test("readStyledSource() reads comments and error messages, with their lines", async () => {
  const source = [
    "/**",
    " * Reads a file; see {@linkcode held} and `looks ahead`.",
    " *",
    " * @param path Its",
    " * path.",
    " * @throws {UsageError} If it is broken.",
    " *",
    " * @example",
    " * ```ts",
    " * what is code",
    " * ```",
    " */",
    "export function read(path: string) {",
    "  // One line,",
    "  // and the next.",
    '  if (path === "") throw new RangeError(`Cannot read "${path}": ` + "found nothing");',
    '  const other = "expected a path", word = "found", text = "no message of an error";',
    "} // deno-lint-ignore",
  ].join("\n");
  const texts = await readStyledSource("a.ts", source);
  assertEquals(texts.map(({ text, line }) => [line, text.trim().replaceAll(/\s+/g, " ")]), [
    [2, "Reads a file; see X and X."],
    [4, "Its path."],
    [6, "If it is broken."],
    [14, "One line, and the next."],
    [16, 'Cannot read "X": found nothing'],
    [17, "expected a path"],
  ]);
  assertEquals((await readStyledSource("a_test.ts", source)).length, 4);
});

Deno.test("the check of sources finds every planted fault in a comment and in an error message", async () => {
  for (const [rule, wrong] of PLANTED) {
    const source = `/** ${wrong} */\nthrow new Error(${JSON.stringify(wrong)});\n`;
    const found = findStyleFaults(await readStyledSource("lib/a.ts", source));
    assertEquals(found.filter((fault) => fault.rule === rule).map(({ place }) => place), [
      "lib/a.ts:1",
      "lib/a.ts:2",
    ], wrong);
  }
});

Deno.test("reportFaults() names each rule that has findings, with their places", () => {
  assertEquals(RULE_NAMES, [...Array.from({ length: 13 }, (_, i) => `R${i + 1}`), "terms"]);
  const fault = (rule: string, place: string) => ({ rule, place, found: "alone", advice: '"only"' });
  assertEquals(reportFaults([]), []);
  assertEquals(reportFaults([fault("R5", "a.ts:3"), fault("R4", "a.ts:1"), fault("R4", "b.ts:2")]), [
    ...['R4: 2 findings; "only"', "  a.ts:1: alone", "  b.ts:2: alone"],
    ...['R5: 1 finding; "only"', "  a.ts:3: alone"],
  ]);
});
