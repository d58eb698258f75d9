/** Tokenizers as model families have them against the Python packages tokenizers, transformers and tiktoken. */
import { assertEquals, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { ModelFormatError } from "../../errors.ts";
import { NO_SETTINGS } from "./_tokenizer_settings.ts";
import golden from "./testdata/families_golden.json" with { type: "json" };
import hfGolden from "./testdata/hf_tokenizer_golden.json" with { type: "json" };
import pieces from "./testdata/sentencepiece_golden.json" with { type: "json" };
import { mixedStrings } from "./testdata/mixed_text.mjs";
import { tekkenAsHf } from "./_tekken.ts";
import { Tokenizer } from "./tokenizer.ts";

const strings: string[] = mixedStrings();
const fromTekken = (json: unknown) => Tokenizer.fromHf("t", tekkenAsHf("t", JSON.stringify(json)));

/** Fails unless a tokenizer has the ids that a golden file has digests of; special tokens in a text are tokens. */
function assertIds(tokenizer: Tokenizer, digests: readonly string[], special = true): void {
  const wrong = strings.flatMap((text, i) => {
    const ids = tokenizer.encode(text, { bos: false, special });
    const digest = createHash("sha256").update(new Uint8Array(ids.buffer)).digest("hex").slice(0, 8);
    return digest === digests[i] ? [] : [{ text, ids: [...ids] }];
  });
  assertEquals(wrong, []);
  assertEquals(digests.length, 200);
}

for (const [name, { base, change, digests }] of Object.entries(golden.cases)) {
  Deno.test(`${name}: Tokenizer.fromHf() has transformers' ids of 200 strings`, () => {
    const { json } = hfGolden.cases[base as keyof typeof hfGolden.cases];
    assertIds(Tokenizer.fromHf("tokenizer.json", JSON.stringify({ ...json, ...change })), digests);
  });
}

for (const [name, legacy] of [["legacy", true], ["new", false]] as const) {
  Deno.test(`Tokenizer.fromSentencePiece() has transformers' ids of 200 strings, ${name} ways`, () => {
    const bytes = Uint8Array.fromBase64(pieces.llama.model), { added } = pieces.llama;
    assertIds(
      Tokenizer.fromSentencePiece("tokenizer.model", bytes, { ...NO_SETTINGS, legacy, added }),
      pieces.llama[name],
    );
  });
}

Deno.test("tekkenAsHf() has tiktoken's ids of 200 strings, and special tokens before them", () => {
  const { json, digests } = golden.tekken,
    tokenizer = fromTekken(json);
  assertIds(tokenizer, digests, false);
  assertEquals([tokenizer.vocabSize, tokenizer.bosId, tokenizer.addsBos], [
    json.config.default_vocab_size,
    1,
    true,
  ]);
  assertEquals([...tokenizer.encode("[INST]a</s>", { special: true })].filter((id) => id < 8), [1, 3, 2]);
  const text = strings.join("");
  assertEquals(tokenizer.decode(tokenizer.encode(text, { bos: false })), text);
  const { special_tokens: _, ...older } = json,
    first = fromTekken({
      ...older,
      config: {
        ...json.config,
        default_num_special_tokens: 14,
        default_vocab_size: json.config.default_vocab_size + 6,
      },
    });
  assertEquals([...first.encode("[SUFFIX]", { special: true })], [1, 13]);
});

Deno.test("tekkenAsHf() refuses what is no such file, and names the key", () => {
  const { json } = golden.tekken, { config, vocab } = json;
  const cases: [unknown, string][] = [
    [[], "found no JSON object"],
    [{}, '"config.pattern": found undefined'],
    [{ ...json, config: { ...config, pattern: 1 } }, '"config.pattern": found 1'],
    [{ ...json, config: { ...config, default_vocab_size: 8 } }, '"config.default_vocab_size": found 8'],
    [
      { ...json, config: { ...config, default_num_special_tokens: 0 } },
      '"config.default_num_special_tokens": found 0',
    ],
    [{ ...json, vocab: vocab.slice(0, 9) }, '"vocab": found 9'],
    [{ ...json, vocab: vocab.with(3, vocab[4]!) }, '"vocab[3]"'],
    [{ ...json, vocab: vocab.with(3, { ...vocab[3]!, token_bytes: "?" }) }, '"vocab[3]"'],
    [{ ...json, special_tokens: [{ rank: 8, token_str: "x" }] }, '"special_tokens"'],
  ];
  for (const [value, message] of cases) {
    assertThrows(() => fromTekken(value), ModelFormatError, message);
  }
});
