/** Tokenizers of random parts, drawn by a seed: the ids of the package tokenizers, or refused in one line. */
import { assert, assertEquals, assertFalse } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { encodeRequest } from "../../eval/items/encoded_item.ts";
import { Tokenizer } from "../mod.ts";
import { IN_SLOW_TIER, unless, withFolder } from "../../testing.ts";
import { lackOfPython } from "../../../experiments/tools/testing_python.ts";
import { drawCases, drawnSeed } from "../../../experiments/tools/verify/drawn_testing.ts";

interface Case {
  readonly name: string;
  readonly json: string;
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly pairs: readonly (readonly [string, string, readonly number[], readonly number[]])[];
}

const COUNT = 150;

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["tokenizers"]),
    `tokenizers drawn by seed ${drawnSeed} have tokenizers' ids, or are refused`,
  ),
  fn: () =>
    withFolder(async (folder) => {
      const refused: string[] = [];
      for (
        const { name, json, texts, ids, pairs } of await drawCases<Case[]>(
          "draw_tokenizers.py",
          COUNT,
          folder,
        )
      ) {
        let tokenizer;
        try {
          tokenizer = Tokenizer.fromHf(name, json);
        } catch (error) {
          if (!(error instanceof ModelFormatError)) throw error;
          assertFalse(error.message.includes("\n"), error.message);
          refused.push(error.message);
          continue;
        }
        texts.forEach((text, i) => {
          const told = () => {
            const { normalizer, pre_tokenizer: words, added_tokens: added, model } = JSON.parse(json);
            const { vocab: _, merges: __, ...more } = model;
            const parts = JSON.stringify({ normalizer, words, added, more });
            return `seed ${drawnSeed}, case ${name}, ${JSON.stringify(text)} by ${parts}`;
          };
          const own = [...tokenizer.encode(text, { bos: false, special: true })];
          if (String(own) !== String(ids[i])) assertEquals(own, ids[i], told());
        });
        for (const [context, continuation, before, scored] of pairs) {
          if (before.length === 0 || scored.length === 0) continue;
          const own = encodeRequest(tokenizer, { context, continuation, characters: 1 });
          const told = `seed ${drawnSeed}, case ${name}, ${JSON.stringify([context, continuation])}`;
          assertEquals([[...own.context], [...own.continuation]], [before, scored], told);
        }
      }
      assert(refused.length < 0.6 * COUNT, `${refused.length} of ${COUNT} refused: ${refused.join("; ")}`);
    }),
});
