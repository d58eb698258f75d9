/** The recording of needles: whole, and in agreement with the evaluation of 100 texts. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { readLines } from "./read.ts";
import { packBits, type Recording, SETTINGS } from "./record.ts";

const path = new URL("results/recording.json", import.meta.url);
const recording: Recording = JSON.parse(await Deno.readTextFile(path));

/** Bits of a run, [layers, tokens]. */
const bitsOf = (kept: string) =>
  [...Uint8Array.fromBase64(kept)].flatMap((byte) =>
    Array.from({ length: 8 }, (_, i) => byte >> (7 - i) & 1)
  );

Deno.test("packBits() writes the first bit into the highest place", () => {
  assertEquals(bitsOf(packBits([Uint8Array.of(1, 0, 0), Uint8Array.of(0, 1, 1)])), [1, 0, 0, 0, 1, 1, 0, 0]);
});

Deno.test("the recording has every rule with and without whole heads at every ratio, on every text", () => {
  const { settings, texts, layers, kvHeads, heads } = recording, { rules, wholes, ratios } = SETTINGS;
  assertEquals(settings, SETTINGS as Recording["settings"]);
  assertEquals(texts.length, SETTINGS.items);
  for (const { tokens, answer, full, runs } of texts) {
    assertEquals(full.found, full.said.startsWith(answer));
    const named = runs.map(({ rule, whole, ratio }) => `${rule} ${whole} ${ratio}`);
    const all = rules.flatMap((rule) =>
      wholes.flatMap((whole) => ratios.map((ratio) => `${rule} ${whole} ${ratio}`))
    );
    assertEquals(named, all);
    for (const { whole, said, found, held, kept } of runs) {
      assertEquals(found, said.startsWith(answer));
      const bits = bitsOf(kept).slice(0, layers * tokens.length);
      const ones = (from: number, to: number) => bits.slice(from, to).reduce((a, b) => a + b, 0);
      // The bytes held are those of the bits, and of the heads that are whole.
      const rows = Array.from({ length: layers }, (_, layer) => {
        const own = whole === "none" ? 0 : heads.filter((name) => name.startsWith(`${layer}.`)).length;
        return own * tokens.length +
          (kvHeads - own) * ones(layer * tokens.length, (layer + 1) * tokens.length);
      });
      assertAlmostEquals(rows.reduce((a, b) => a + b, 0) / (layers * kvHeads * tokens.length), held, 1e-4);
      assertEquals(ones(0, SETTINGS.warmup), SETTINGS.warmup, "the warm-up stays");
    }
  }
});

Deno.test("the recording finds what measure.ts found in the same texts", async () => {
  type Control = { readonly trial: string; readonly found: readonly number[] };
  const [{ modelSha256 }, ...controls] = await readLines<Control>("controls_needle_512");
  assertEquals(recording.conditions["modelSha256"], modelSha256);
  for (const whole of SETTINGS.wholes) {
    const control = controls.find(({ trial }) => trial === `random ${whole} 0`)!;
    const found = recording.texts.map(({ runs }) =>
      Number(runs.find((own) => own.rule === "random" && own.whole === whole && own.ratio === 0.75)!.found)
    );
    assertEquals(found, control.found.slice(0, SETTINGS.items), whole);
  }
});
