import { assert, assertEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { encodeSentencePiece } from "./_sentencepiece.ts";
import { parseGguf } from "../formats/gguf.ts";
import { buildGguf, type Entry } from "../testdata/gguf_builder.ts";
import { mixedText, sampleText } from "./testdata/mixed_text.mjs";
import { smallLlamaParts } from "../testdata/small_llama.ts";
import tinyGolden from "../testdata/tiny_golden.json" with { type: "json" };
import golden from "./testdata/tokenizer_golden.json" with { type: "json" };
import { readVocabulary, VOCABULARY_NAMES } from "../testdata/vocabularies.ts";
import { Tokenizer } from "./tokenizer.ts";

const readTiny = () => readVocabulary("tiny"), readSmollm = () => readVocabulary("smollm");

const small = (entries: Parameters<typeof smallLlamaParts>[0] = {}) =>
  Tokenizer.fromGguf(parseGguf(buildGguf(smallLlamaParts(entries)), "m.gguf"));

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

const TEXT = mixedText(), SAMPLE = sampleText();

Deno.test("mixedText() and sampleText() give the texts that the golden ids belong to", async () => {
  const bytes = new TextEncoder().encode(TEXT);
  assert(bytes.length >= 50_000);
  assertEquals(await sha256(bytes), golden.mixedSha256);
  assertEquals(await sha256(new TextEncoder().encode(SAMPLE)), golden.sampleSha256);
  assertEquals(Object.keys(golden.vocabularies).sort(), VOCABULARY_NAMES.toSorted());
});

for (const name of VOCABULARY_NAMES) {
  Deno.test(`Tokenizer.encode() gives llama.cpp's ids of 50 kB of mixed text, vocabulary ${name}`, async () => {
    const tokenizer = Tokenizer.fromGguf(await readVocabulary(name)), want = golden.vocabularies[name];
    assertEquals(tokenizer.addsBos, want.addsBos);
    assert(want.sample.length >= 200);
    assertEquals([...tokenizer.encode(SAMPLE, { bos: false })], want.sample);
    golden.special.forEach((text, i) =>
      assertEquals([...tokenizer.encode(text, { bos: false, special: true })], want.special[i])
    );
    const begin = performance.now();
    const ids = tokenizer.encode(TEXT, { bos: false });
    const timeMs = performance.now() - begin;
    assertEquals(ids.length, want.mixed.count);
    assertEquals(await sha256(new Uint8Array(ids.buffer)), want.mixed.sha256);
    assert(timeMs < 20_000, `50 kB took ${timeMs} ms`);
  });
}

Deno.test("Tokenizer.rest() changes no ids", async () => {
  for (const tokenizer of [Tokenizer.fromGguf(await readTiny()), Tokenizer.fromGguf(await readSmollm())]) {
    const ids = tokenizer.encode(SAMPLE);
    tokenizer.rest();
    assertEquals(tokenizer.encode(SAMPLE), ids);
    assertEquals(tokenizer.decode(ids).trim(), SAMPLE.trim());
  }
});

Deno.test("Tokenizer.decode() gives the text back", async () => {
  for (const tokenizer of [Tokenizer.fromGguf(await readTiny()), Tokenizer.fromGguf(await readSmollm())]) {
    // "\u2581" is SentencePiece's own space.
    for (const text of [TEXT.replaceAll("\u2581", "_"), "", " ", "  two", "\n\nx ", "\ufeffmark"]) {
      assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
    }
  }
});

Deno.test("Tokenizer.encode() gives the ids that transformers reads from tiny's file", async () => {
  const tokenizer = Tokenizer.fromGguf(await readTiny());
  for (const { text, ids } of tinyGolden.texts) assertEquals([...tokenizer.encode(text)], ids);
});

Deno.test("Tokenizer.encode() puts a BOS first where the model expects one, or as asked", async () => {
  const tiny = Tokenizer.fromGguf(await readTiny());
  assertEquals([tiny.bosId, tiny.addsBos, tiny.vocabSize], [1, true, 4096]);
  assertEquals(tiny.encode("It").at(0), 1);
  assertEquals(tiny.encode("It", { bos: false }).at(0), 540);
  assertEquals([...tiny.encode("")], [1]);
  const smollm = Tokenizer.fromGguf(await readSmollm());
  assertEquals([smollm.bosId, smollm.addsBos], [1, false]);
  assertEquals([...smollm.encode("", { bos: true })], [1]);
  assertEquals([...smollm.encode("")], []);

  const none = small({
    "tokenizer.ggml.bos_token_id": undefined,
    "tokenizer.ggml.add_bos_token": ["tokenizer.ggml.add_bos_token", "bool", false],
  });
  assertEquals([none.bosId, none.addsBos], [undefined, false]);
  assertEquals(small({ "tokenizer.ggml.add_bos_token": undefined }).addsBos, true); // as in llama.cpp
  assertThrows(() => none.encode("a", { bos: true }), RangeError, "BOS");
});

Deno.test("Tokenizer.encode() takes what looks like a control token for text", async () => {
  for (const [gguf, control] of [[await readTiny(), "<s>"], [await readSmollm(), "<|im_end|>"]] as const) {
    const tokenizer = Tokenizer.fromGguf(gguf);
    const ids = tokenizer.encode(`a ${control} b`, { bos: false });
    assert([...ids].every((id) => tokenizer.piece(id) !== control));
    assertEquals(tokenizer.decode(ids), `a ${control} b`);
  }
});

Deno.test("Tokenizer.encode() takes user-defined tokens whole, the longest first", () => {
  const { entries } = smallLlamaParts() as { entries: Entry[] };
  const valueOf = (key: string) => [...entries.find(([name]) => name === key)![2] as never[]] as never[];
  const extended = (
    key: string,
    type: "string" | "float32" | "int32",
    values: unknown[],
  ): Entry => [key, [type], [...valueOf(key), ...values as never[]]];
  const tokenizer = small({
    "tokenizer.ggml.tokens": extended("tokenizer.ggml.tokens", "string", ["bcd", "ab|", "<|im_end|>"]),
    "tokenizer.ggml.scores": extended("tokenizer.ggml.scores", "float32", [0, 0, 0]),
    "tokenizer.ggml.token_type": extended("tokenizer.ggml.token_type", "int32", [4, 4, 4]),
    "llama.vocab_size": undefined,
  });
  const pieces = (text: string) =>
    [...tokenizer.encode(text, { bos: false })].map((id) => tokenizer.piece(id));
  assertEquals(pieces("abcd"), ["\u2581a", "bcd"]);
  assertEquals(pieces("ab|bcdab"), ["ab|", "bcd", "\u2581", "ab"]);
  assertEquals(pieces("<|im_end|>").length > 5, true, "a control-looking name stays text, as in llama.cpp");
  assertEquals(tokenizer.decode(tokenizer.encode("ab|bcd")), "ab|bcd");
});

Deno.test("Tokenizer.encode() leaves the space before a text to add_space_prefix", () => {
  assertEquals([...small().encode("ab", { bos: false })].map((id) => small().piece(id)), ["\u2581", "ab"]);
  const without = small({
    "tokenizer.ggml.add_space_prefix": ["tokenizer.ggml.add_space_prefix", "bool", false],
  });
  assertEquals([...without.encode("ab", { bos: false })].map((id) => without.piece(id)), ["ab"]);
  assertEquals(without.decode(without.encode(" ab")), " ab");
});

Deno.test("Tokenizer.encode() reads a lone surrogate as U+FFFD", async () => {
  const tokenizer = Tokenizer.fromGguf(await readSmollm());
  assertEquals(tokenizer.encode("a\ud800b"), tokenizer.encode("a\ufffdb"));
});

Deno.test("encodeSentencePiece() merges the highest score first, the leftmost of equals", () => {
  // All pieces over two letters of up to four letters are there or not at random, with few distinct scores.
  let state = 5;
  const random = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
  const byteIds = Array.from({ length: 256 }, (_, byte) => 1000 + byte);
  const spell = (symbol: string, ids: number[]) =>
    new TextEncoder().encode(symbol).forEach((byte) => ids.push(byteIds[byte]!));
  for (let trial = 0; trial < 200; trial++) {
    const idOf = new Map<string, number>(), scores: number[] = [];
    for (let length = 1; length <= 4; length++) {
      for (let code = 0; code < 2 ** length; code++) {
        if (length > 1 && random(3) === 0) continue;
        idOf.set(code.toString(2).padStart(length, "0"), scores.length);
        scores.push(-random(3));
      }
    }
    if (trial % 2 === 1) idOf.delete("1");
    const text = Array.from({ length: 1 + random(40) }, () => random(2)).join("");
    const ids: number[] = [];
    encodeSentencePiece(text, idOf, scores, spell, ids);
    assertEquals(ids, mergeByDefinition(text, idOf, scores, byteIds), `"${text}"`);
  }
});

function mergeByDefinition(
  text: string,
  idOf: Map<string, number>,
  scores: number[],
  byteIds: number[],
): number[] {
  const symbols = [...text];
  for (;;) {
    let best = -1, bestScore = -Infinity;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const id = idOf.get(symbols[i]! + symbols[i + 1]!);
      if (id !== undefined && scores[id]! > bestScore) [best, bestScore] = [i, scores[id]!];
    }
    if (best < 0) break;
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
  return symbols.flatMap((symbol) =>
    idOf.get(symbol) ?? [...new TextEncoder().encode(symbol)].map((b) => byteIds[b]!)
  );
}

Deno.test("Tokenizer.decodeStream() joins to decode(), from the start and behind a prompt, and holds unfinished characters", async () => {
  for (const tokenizer of [Tokenizer.fromGguf(await readTiny()), Tokenizer.fromGguf(await readSmollm())]) {
    for (const text of ["The sea 🦜 日本 is calm.", "  two", "\n x", ""]) {
      const ids = tokenizer.encode(text), stream = tokenizer.decodeStream();
      const pieces = Array.from(ids, (id) => stream.next(id));
      assertEquals(pieces.join("") + stream.end(), text);
      assert(pieces.every((piece) => !piece.includes("\ufffd")));
      for (let cut = 0; cut <= ids.length; cut++) {
        const prompt = ids.subarray(0, cut),
          after = tokenizer.decodeStream(prompt),
          shown = tokenizer.decode(prompt);
        if (shown.endsWith("\ufffd")) continue; // a character is cut
        const rest = Array.from(ids.subarray(cut), (id) => after.next(id)).join("") + after.end();
        assertEquals(shown + rest, text);
      }
    }
  }
  const tiny = Tokenizer.fromGguf(await readTiny()),
    ids = tiny.encode("🦜", { bos: false }),
    stream = tiny.decodeStream();
  assertEquals(ids.subarray(0, -1).reduce((text, id) => text + stream.next(id), ""), "");
  assertEquals(stream.end(), tiny.decode(ids.subarray(0, -1)));
  assertThrows(() => tiny.decodeStream().next(-1), RangeError, "Cannot use token -1");
});

Deno.test("Tokenizer.decode(), piece() and bytes() show single tokens", async () => {
  const tiny = Tokenizer.fromGguf(await readTiny()), smollm = Tokenizer.fromGguf(await readSmollm());
  assertEquals([tiny.piece(1), tiny.piece(13), tiny.piece(540)], ["<s>", "<0x0A>", "\u2581It"]);
  assertEquals([...tiny.bytes(1)], []);
  assertEquals([...tiny.bytes(13)], [10]);
  assertEquals(new TextDecoder().decode(tiny.bytes(540)), " It");
  const [id] = smollm.encode(" the");
  assertEquals(smollm.piece(id!), "\u0120the");
  assertEquals(new TextDecoder().decode(smollm.bytes(id!)), " the");
  assertEquals(smollm.decode([2, id!, 0]), " the");
  for (const bad of [-1, 0.5, 49_152, NaN]) {
    assertThrows(
      () => smollm.decode([bad]),
      RangeError,
      `Cannot use token ${bad}: expected an id from 0 to 49151`,
    );
  }
});

Deno.test("Tokenizer.texts() gives a shared character to its last token, and joins to the text", async () => {
  for (const [gguf, space] of [[await readTiny(), " "], [await readSmollm(), ""]] as const) {
    const tokenizer = Tokenizer.fromGguf(gguf);
    const text = "\ufeffIt was \u{1F980} naïve\n at sea";
    const ids = tokenizer.encode(text), texts = tokenizer.texts(ids);
    assertEquals(texts.length, ids.length);
    assertEquals(texts.join(""), space + text);
    const crab = texts.findIndex((part) => part.includes("\u{1F980}"));
    assertEquals(texts[crab - 1], "");
  }
  const tiny = Tokenizer.fromGguf(await readTiny());
  // Bytes of an unfinished character at the end are not lost.
  assertEquals(tiny.texts([3 + 0xf0]), ["\ufffd"]);
  assertEquals(tiny.texts([]), []);
});

Deno.test("Tokenizer.fromGguf() refuses what would change the ids, and names the key", () => {
  const cases: [Entry, string][] = [
    [["tokenizer.ggml.model", "string", "bert"], 'found "bert", expected "llama" or "gpt2"'],
    [["tokenizer.ggml.pre", "string", "chatglm-bpe"], 'found "chatglm-bpe"'],
    [["tokenizer.ggml.tokens", ["string"], ["a", "b", "a"]], "found"],
    [
      ["tokenizer.ggml.token_type", ["int32"], [1]],
      "found 1 entries, expected one for each of the 264 tokens",
    ],
    [["tokenizer.ggml.token_type", ["int32"], new Array(264).fill(9)], "found type 9 of token 0"],
    [["tokenizer.ggml.token_type", ["int32"], new Array(264).fill(1)], 'found no byte token "<0x00>"'],
    [["tokenizer.ggml.scores", ["float32"], [1, 2]], "found 2 entries"],
    [["tokenizer.ggml.bos_token_id", "uint32", 264], "found 264, expected an id from 0 to 263"],
    [["tokenizer.ggml.add_eos_token", "bool", true], "found true, expected false"],
    [["tokenizer.ggml.remove_extra_whitespaces", "bool", true], "found true, expected false"],
    [["tokenizer.ggml.precompiled_charsmap", ["uint8"], [1]], "does not support"],
  ];
  for (const [entry, message] of cases) {
    const error = assertThrows(
      () => small({ [entry[0]]: entry, "llama.vocab_size": undefined }),
      ModelFormatError,
    );
    assert(error.message.includes("tokenizer.ggml.") && error.message.includes(message), error.message);
  }
  for (const key of ["tokenizer.ggml.model", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"]) {
    assertThrows(() => small({ [key]: undefined }), ModelFormatError, `"${key}": found no such key`);
  }
  assertThrows(
    () => small({ "tokenizer.ggml.bos_token_id": undefined }),
    ModelFormatError,
    "the id that add_bos_token asks for",
  );
});

Deno.test("Tokenizer.fromGguf() refuses a byte-level vocabulary that it does not know", () => {
  const byteLevel = (rest: { [key: string]: Entry | undefined }) => {
    const tokens: Entry[] = [
      ["tokenizer.ggml.model", "string", "gpt2"],
      ["tokenizer.ggml.pre", "string", "gpt-2"],
      ["tokenizer.ggml.tokens", ["string"], ["a", "b", "ab"]],
      ["tokenizer.ggml.token_type", ["int32"], [1, 1, 1]],
      ["tokenizer.ggml.merges", ["string"], ["a b", "a b"]],
      ["tokenizer.ggml.add_bos_token", "bool", false],
    ];
    return small({ ...Object.fromEntries(tokens.map((entry) => [entry[0], entry])), ...rest });
  };
  const ready = byteLevel({});
  assertEquals([...ready.encode("abba")], [2, 1, 0]);
  // Without the key, families of Llama 3 and Mistral begin with a BOS, others do not.
  for (
    const [pre, addsBos] of [["llama3", true], ["tekken", true], ["qwen2", false], ["llama4", false]] as const
  ) {
    const silent = byteLevel({
      "tokenizer.ggml.pre": ["tokenizer.ggml.pre", "string", pre],
      "tokenizer.ggml.add_bos_token": undefined,
    });
    assertEquals(silent.addsBos, addsBos, pre);
  }
  // A word of the vocabulary that no merge makes is taken whole by those families that ignore merges.
  for (
    const [pre, ids] of [["llama3", [2]], ["tekken", [2]], ["gpt-4o", [0, 1]], ["qwen2", [0, 1]]] as const
  ) {
    const unmerged = byteLevel({
      "tokenizer.ggml.pre": ["tokenizer.ggml.pre", "string", pre],
      "tokenizer.ggml.merges": ["tokenizer.ggml.merges", ["string"], []],
    });
    assertEquals([...unmerged.encode("ab")], ids, pre);
  }
  const cases: [string, Entry | undefined, string][] = [
    ["pre", ["tokenizer.ggml.pre", "string", "viking"], 'found "viking", expected one of "default"'],
    ["pre", ["tokenizer.ggml.pre", "string", "toString"], 'found "toString"'],
    ["pre", undefined, "found no such key"],
    ["merges", undefined, "found no such key"],
    ["merges", ["tokenizer.ggml.merges", ["string"], ["ab"]], 'found "ab", expected two pieces'],
    ["add_space_prefix", ["tokenizer.ggml.add_space_prefix", "bool", true], "found true, expected false"],
  ];
  for (const [key, entry, message] of cases) {
    assertThrows(() => byteLevel({ [`tokenizer.ggml.${key}`]: entry }), ModelFormatError, message);
  }
});
