import { assert, assertEquals, assertRejects } from "@std/assert";
import { loadModel, reopenTokenizer } from "../../../lib/model/mod.ts";
import { NO_SETTINGS } from "../../../lib/model/tokenizer/_tokenizer_settings.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { openEncoder } from "./encoder.ts";
import { RefusedError } from "./messages.ts";

const LETTERS = [..."abcdefgh !"];

/** A tokenizer of letters whose file splits words by a pattern. */
async function withPattern(pattern: string, normalizer: object | null = null) {
  const folder = await Deno.makeTempDir(), file = `${folder}/tokenizer.json`;
  const model = {
    type: "BPE",
    vocab: Object.fromEntries(LETTERS.map((letter, id) => [letter, id])),
    merges: [],
  };
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  await Deno.writeTextFile(file, JSON.stringify({ model, normalizer, pre_tokenizer: split }));
  return { folder, tokenizer: await reopenTokenizer({ file, settings: NO_SETTINGS }) };
}

const bad = `${"a".repeat(60)}!`;

Deno.test("a text on which a file's pattern never ends is refused in time, and others are encoded meanwhile", async () => {
  const { folder, tokenizer } = await withPattern("(a+)+$");
  using encoder = openEncoder(tokenizer, 700);
  const ids = await encoder.encode("abc", { bos: false }, "prompt");
  assertEquals([...ids], [0, 1, 2]);
  const began = performance.now();
  const hung = [bad, bad].map((text) =>
    assertRejects(
      () => encoder.encode(text, {}, "prompt"),
      RefusedError,
      "the model's own patterns take more than 1 s",
    )
  );
  const other = await encoder.encode("hello a".replaceAll(/[lo]/g, ""), {}, "prompt");
  assertEquals([...other], [7, 4, 8, 0]);
  await Promise.all(hung);
  assert(performance.now() - began < 20_000);
  assertEquals([...await encoder.encode("ba", {}, "prompt")], [1, 0]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a text that the tokenizer refuses is the client's, and a plain tokenizer works in the same thread", async () => {
  const grow = { type: "Replace", pattern: { String: "a" }, content: "a".repeat(1000) };
  const { folder, tokenizer } = await withPattern("b", { type: "Sequence", normalizers: [grow, grow, grow] });
  using encoder = openEncoder(tokenizer);
  await assertRejects(
    () => encoder.encode("aaaaa", {}, "messages"),
    RefusedError,
    '"normalizer": cannot be used on a text',
  );
  assertEquals([...await encoder.encode("bc", {}, "messages")], [1, 2]);
  await Deno.remove(folder, { recursive: true });
  const { tokenizer: tiny } = await loadModel("tiny", new ReferenceBackend());
  assertEquals(tiny.origin, undefined);
  using plain = openEncoder(tiny);
  assertEquals(await plain.encode("Hello", {}, "prompt"), tiny.encode("Hello"));
});
