/** The calibration text of a recipe. */
import { assertEquals } from "@std/assert";
import { readBuiltinText } from "../../../lib/eval/mod.ts";
import { ownCalibration, setCalibration } from "../../../lib/methods/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { withFolder } from "../testing.ts";
import { Progress } from "../cli/output/progress.ts";
import { planParts } from "./parts.ts";
import { readRecipe } from "./recipe.ts";

Deno.test("planParts() fits methods on the recipe's calibration text, in the model's tokens", () =>
  withFolder(async (folder) => {
    const text = await readBuiltinText();
    await Deno.writeTextFile(`${folder}/wikitext2-train.txt`, text);
    const recipe = {
      ...await readRecipe("quick"),
      calibration: { data: "wikitext2-train", domain: "other", tokens: 100 },
    };
    const values = new Map([["data", [folder]], ["backend", ["reference"]]]);
    const request = {
      choice: "reference",
      threads: 1,
      cacheDType: "f32",
      products: "exact",
      fastest: false,
      wgmma: false,
    } as const;
    try {
      await planParts(recipe, { values, progress: new Progress(undefined), request });
      const { domain, sha256: found, chunks } = ownCalibration()!;
      assertEquals([domain, found, chunks.map(({ length }) => length)], ["other", await sha256(text), [100]]);
    } finally {
      setCalibration(undefined);
    }
  }));
