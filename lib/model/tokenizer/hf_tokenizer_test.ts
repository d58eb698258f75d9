/** Tokenizers of Hugging Face folders against the Python package `tokenizers`. */
import { assertEquals, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { ModelFormatError } from "../../errors.ts";
import golden from "./testdata/hf_tokenizer_golden.json" with { type: "json" };
import { mixedText, sampleText } from "./testdata/mixed_text.mjs";
import { NO_SETTINGS } from "./_tokenizer_settings.ts";
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

const STRIP = { type: "Strip", strip_left: true, strip_right: true };
const METASPACE = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "first", split: false };

/** Pieces of a text by a tokenizer that takes a word whole where it is one of those wanted, and letter by letter else. */
function piecesOf(parts: object, text: string, wanted: readonly string[]): string[] {
  const pieces = [...new Set([...wanted, ..." abcdefgh"])];
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece, id]));
  const model = { type: "BPE", vocab, merges: [], unk_token: " ", ignore_merges: true };
  const tokenizer = Tokenizer.fromHf("t.json", JSON.stringify({ model, ...parts }));
  return [...tokenizer.encode(text, { bos: false, special: true })].map((id) => tokenizer.piece(id));
}

const merging = (behavior: string, invert = false) => ({
  ...{ type: "Split", pattern: { String: " " }, behavior, invert },
});

Deno.test("Tokenizer.fromHf() parts words as tokenizers does: Unicode's white space, code points, behaviours", () => {
  const cases: [part: object, text: string, words: string[]][] = [
    [{ type: "WhitespaceSplit" }, "a\ufeffb\x85c \u2028d", ["a\ufeffb", "c", "d"]],
    [{ type: "Whitespace" }, "né_1 x-² \ufeff", ["né_1", "x", "-²", "\ufeff"]],
    [{ type: "BertPreTokenizer" }, "\ufeffa\x85b,,c$", ["\ufeffa", "b", ",", ",", "c", "$"]],
    [{ type: "Punctuation" }, "a..b$", ["a", ".", ".", "b", "$"]],
    [{ type: "Punctuation", behavior: "Contiguous" }, "a.-b", ["a", ".-", "b"]],
    [{ type: "Punctuation", behavior: "Removed" }, "a.-b", ["a", "b"]],
    [{ type: "FixedLength", length: 2 }, "a🦊bcd", ["a🦊", "bc", "d"]],
    [merging("Removed"), "a  b", ["a", "b"]],
    [merging("Removed", true), "a  b", [" ", " "]],
    [merging("Isolated", true), "a  b", ["a", " ", " ", "b"]],
    [merging("Contiguous"), "a  b", ["a", "  ", "b"]],
    [merging("MergedWithPrevious"), " a  b", [" ", "a ", " ", "b"]],
    [merging("MergedWithNext"), " a  b ", [" a", " ", " b", " "]],
    [{ ...merging("Removed"), pattern: { String: "a|" } }, "ca|b", ["c", "b"]],
    [{ type: "ByteLevel", add_prefix_space: true, use_regex: true }, "\ufeffb c", ["Ġï»¿", "b", "Ġc"]],
    [{ type: "ByteLevel", add_prefix_space: true, use_regex: true }, " b", ["Ġb"]],
  ];
  for (const [pre_tokenizer, text, words] of cases) {
    assertEquals(piecesOf({ pre_tokenizer }, text, words), words, JSON.stringify(pre_tokenizer));
  }
});

Deno.test("Tokenizer.fromHf() makes text uniform as tokenizers does", () => {
  const bert = { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null };
  const cases: [normalizer: object, text: string, wanted: string][] = [
    [STRIP, " \x85\ufeffa b \u2003\n", "\ufeffa b"],
    [{ type: "Strip", strip_left: false, strip_right: true }, " a \x85", " a"],
    [{ type: "Lowercase" }, "ΟΔΟΣ ΣÉ", "οδοσ σé"],
    [{ type: "Replace", pattern: { String: "a" }, content: "$&$1$" }, "ca", "c$&$1$"],
    [{ ...bert, lowercase: true }, "É\u{20000}\tx\x07中", "e \u{20000}  x 中 "],
    [{ ...bert, lowercase: false }, "É", "É"],
  ];
  for (const [normalizer, text, wanted] of cases) {
    assertEquals(piecesOf({ normalizer }, text, [wanted]), [wanted], JSON.stringify(normalizer));
  }
});

Deno.test("Tokenizer.fromHf() finds added tokens as tokenizers does, and takes white space beside them by Unicode's rule", () => {
  const token = (id: number, content: string, more: object = {}) => ({
    ...{ id, content, special: true, lstrip: false, rstrip: false, normalized: false },
    ...more,
  });
  const strips = [token(20, "<a>", { lstrip: true }), token(21, "<ab>", { rstrip: true }), token(22, "  ")];
  const pieces = (text: string, added_tokens: object[], parts: object = {}) =>
    piecesOf({ added_tokens, ...parts }, text, ["b\ufeff", "b ", "\ufeffc", " c", "É", "é"]);
  assertEquals(pieces("b\ufeff\x85 <a> c", strips), ["b\ufeff", "<a>", " c"]);
  assertEquals(pieces("b <ab>\u2003\x85\ufeffc", strips), ["b ", "<ab>", "\ufeffc"]);
  assertEquals(pieces("a  <a>b<ab>  c", strips), ["a", "  ", "<a>", "b", "<ab>", "  ", "c"]);
  // One that is looked for in the uniform text, and one that is not, though the whole text becomes it.
  const lower = { normalizer: { type: "Lowercase" } };
  assertEquals(pieces("aÉé", [token(20, "É", { normalized: true })], lower), ["a", "É", "É"]);
  assertEquals(pieces("A", [token(20, "a")], lower), ["a"]);
  const model = { type: "BPE", vocab: { u: 0, a: 1 }, merges: [], unk_token: "u", fuse_unk: true };
  const fused = JSON.stringify({ model, pre_tokenizer: { type: "WhitespaceSplit" } });
  assertEquals([...Tokenizer.fromHf("t.json", fused).encode("?? !", { bos: false })], [0, 0]);
  assertEquals(piecesOf({ normalizer: { type: "Prepend", prepend: "$&" } }, "a", ["$&a"]), ["$&a"]);
});

Deno.test("Tokenizer.fromHf() leaves out special tokens that the model has no row for: their text is characters", () => {
  const { json } = Object.values(golden.cases)[0]!;
  const { vocabSize } = Tokenizer.fromHf("t.json", JSON.stringify(json)),
    settings = { ...NO_SETTINGS, vocabSize };
  const withToken = (special: boolean) => {
    const token = { id: vocabSize, content: "<image>", special };
    const text = JSON.stringify({ ...json, added_tokens: [...json.added_tokens, token] });
    return Tokenizer.fromHf("t.json", text, settings);
  };
  const left = withToken(true), ids = left.encode("a<image>", { special: true });
  assertEquals([left.vocabSize, Math.max(...ids) < vocabSize, left.decode(ids)], [
    vocabSize,
    true,
    "a<image>",
  ]);
  // A plain one is kept, and the model is refused.
  assertEquals(withToken(false).vocabSize, vocabSize + 1);
});

Deno.test("Tokenizer.fromHf() refuses what it does not know, and names the key", () => {
  const { json } = golden.cases["llama-3"], { model, post_processor: template } = json;
  const withModel = (change: Record<string, unknown>) => ({ ...json, model: { ...model, ...change } });
  const split = (pattern: object, behavior: string, invert = false) => ({
    ...json,
    pre_tokenizer: { type: "Split", pattern, behavior, invert },
  });
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
    [withModel({ continuing_subword_prefix: "##" }), '"model.continuing_subword_prefix": found "##"'],
    [withModel({ dropout: 0.1 }), '"model.dropout": found 0.1, expected none'],
    [
      withModel({ unk_token: "<unk>", merges: [["<unk>", "a"]] }),
      '"model.merges": found one with "<unk>", expected none of unknown characters',
    ],
    [
      { ...json, normalizer: { type: "NFC" }, pre_tokenizer: METASPACE },
      'found Metaspace of the scheme "first" with a normalizer',
    ],
    [{ ...json, pre_tokenizer: { type: "FixedLength", length: 0 } }, "found FixedLength with the length 0"],
    [
      { ...json, pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits" }, METASPACE] } },
      'found Metaspace of the scheme "first" behind another part',
    ],
    [split({ Regex: "a|b" }, "MergedWithNext"), 'found Split with the behavior "MergedWithNext", expected'],
    [split({ String: " " }, "Contiguous", true), 'found Split with the behavior "Contiguous", inverted'],
    [split({ String: " " }, "Merged"), 'found Split with the behavior "Merged", expected'],
    [split({ Regex: "(a)b" }, "Removed"), 'found Split with the pattern "(a)b" that captures'],
    [{ ...json, post_processor: { type: "RobertaProcessing" } }, '"post_processor": found RobertaProcessing'],
    [
      { ...json, normalizer: STRIP, added_tokens: [{ id: 450, content: " ", normalized: true }] },
      '"normalizer": found a part that cannot be used: nothing is left of the added token " "',
    ],
    [{ ...json, pre_tokenizer: { type: "Magic" } }, '"pre_tokenizer": found a part that cannot be used'],
    [
      { ...json, post_processor: { ...template, single: [...template!.single, end] } },
      '"post_processor.single": found 3 items',
    ],
    [{ ...json, post_processor: { ...template, single: [template!.single[1], end] } }, "found 2 items"],
    [
      {
        ...json,
        post_processor: { ...template, single: [end], special_tokens: { "</s>": { ids: ["9"] } } },
      },
      '"post_processor.special_tokens": found "9" for "</s>", expected a token\'s id',
    ],
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
