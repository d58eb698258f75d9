/** Tokenizers of Hugging Face folders against the Python package `tokenizers`. */
import { assertEquals, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { ModelFormatError } from "../../errors.ts";
import golden from "../testdata/hf_tokenizer_golden.json" with { type: "json" };
import { mixedText, sampleText } from "../testdata/mixed_text.mjs";
import { Tokenizer } from "./tokenizer.ts";

const text = mixedText(12_000), sample = sampleText();

for (const [name, { addsBos, count, sha256, sample: want, json }] of Object.entries(golden.cases)) {
  Deno.test(`${name}: Tokenizer.fromHf() has tokenizers' ids, and its tokens' texts are the text`, () => {
    const tokenizer = Tokenizer.fromHf("tokenizer.json", JSON.stringify(json));
    assertEquals([...tokenizer.encode(sample, { bos: false })], want);
    const ids = tokenizer.encode(text, { bos: false });
    assertEquals(ids.length, count);
    assertEquals(createHash("sha256").update(new Uint8Array(ids.buffer)).digest("hex"), sha256);
    assertEquals([tokenizer.addsBos, tokenizer.bosId], [addsBos, addsBos ? 1 : undefined]);
    if (addsBos) assertEquals([...tokenizer.encode(sample)], [1, ...want]);
    // Vocabularies of SentencePiece write a space like this character, and some put one after each added token.
    const plain = sample.replaceAll("\u2581", " ").replaceAll("<div", "<p").replaceAll("hahaha", "ha");
    assertEquals(tokenizer.decode(tokenizer.encode(plain, { bos: false })), plain);
    assertEquals(tokenizer.decode([0, 1, 2, 3]), "");
    assertEquals(
      tokenizer.texts(tokenizer.encode("hahaha<div", { bos: false })).join("").trim(),
      "hahaha<div",
    );
  });
}

Deno.test("Tokenizer.fromHf() refuses what it does not know, and names the key", () => {
  const { json } = golden.cases["llama-3"], { model, post_processor: template } = json;
  const withModel = (change: Record<string, unknown>) => ({ ...json, model: { ...model, ...change } });
  const end = { SpecialToken: { id: "</s>", type_id: 0 } };
  const cases: [unknown, string][] = [
    [[], "found no JSON object"],
    [{}, '"model.type": found undefined'],
    [null, "found no JSON object"],
    [withModel({ type: "Unigram" }), '"model.type": found "Unigram", expected "BPE"'],
    [withModel({ vocab: null }), '"model.vocab": found no object'],
    [withModel({ vocab: { ...model.vocab, far: 5000 } }), '"model.vocab": found 5000 for "far"'],
    [withModel({ vocab: { ...model.vocab, half: 0.5 } }), '"model.vocab": found 0.5 for "half"'],
    [
      { ...json, normalizer: { type: "Precompiled", precompiled_charsmap: "" } },
      '"normalizer": found {"type":"Precompiled"',
    ],
    [
      { ...json, pre_tokenizer: { type: "Metaspace", replacement: "_" } },
      '"pre_tokenizer": found {"type":"Meta',
    ],
    [
      { ...json, pre_tokenizer: { type: "Split", behavior: "Isolated" } },
      '"pre_tokenizer": found Split with the',
    ],
    [
      { ...json, added_tokens: [{ id: 9, content: "x", special: true, single_word: true }] },
      '"added_tokens": found "x" with single_word',
    ],
    [{ ...json, pre_tokenizer: { type: "Magic" } }, '"pre_tokenizer": found a part that cannot be used'],
    [
      { ...json, post_processor: { ...template, single: [...template!.single, end] } },
      '"post_processor.single": found 3 items',
    ],
    [{ ...json, post_processor: { ...template, single: [template!.single[1], end] } }, "found 2 items"],
  ];
  for (const [value, message] of cases) {
    const error = assertThrows(
      () => Tokenizer.fromHf("t.json", JSON.stringify(value)),
      ModelFormatError,
      message,
    );
    assertEquals(error.file, "t.json");
  }
  assertThrows(() => Tokenizer.fromHf("t.json", "{"), ModelFormatError, "found no JSON text");
  const bare = { ...json, post_processor: { ...template, single: template!.single.slice(1) } };
  assertEquals(Tokenizer.fromHf("t.json", JSON.stringify(bare)).addsBos, false);
});

Deno.test("Tokenizer.fromHf() leaves ids without a token empty, and knows where a space goes in front", () => {
  const { json } = golden.cases["llama-3"];
  const gap = { ...json, model: { ...json.model, vocab: { ...json.model.vocab, zz: 455 } } };
  const tokenizer = Tokenizer.fromHf("t.json", JSON.stringify(gap));
  assertEquals([tokenizer.vocabSize, tokenizer.piece(453), tokenizer.decode([453, 455])], [456, "", "zz"]);
  const spaces = Object.entries(golden.cases).filter(([, { json }]) =>
    Tokenizer.fromHf("t.json", JSON.stringify(json)).decode([
      ...Tokenizer.fromHf("t.json", JSON.stringify(json)).encode("a", { bos: false }),
    ]) === "a"
  );
  assertEquals(spaces.length, 6);
});
