/** Models and configs drawn by a seed, each as transformers loads it: the same logits, or refused in one line. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { openSource } from "../checkpoint_golden_testing.ts";
import { diskFolder } from "./_disk.ts";
import { readHfFolder } from "./hf_folder.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import { f32Data } from "../../tensor.ts";
import { IN_SLOW_TIER, unless, withFolder } from "../../testing.ts";
import { lackOfPython } from "../../../experiments/tools/testing_python.ts";
import { drawCases, drawnSeed } from "../../../experiments/tools/verify/drawn_testing.ts";

interface Case {
  readonly name: string;
  readonly form: string;
  readonly left: readonly string[];
  readonly contextLength?: number;
  readonly ids: readonly number[];
  readonly logits: string;
}

/**
 * The largest error of a logit, relative to their root mean square: transformers has norms, softmax and angles in
 * float32. The largest error over 570 models was 3.9e-5. Defaults that were wrong once gave 0.88 and more.
 */
const BAR = 1e-4;
/** Cases that are drawn, of seven architectures in turn. */
const COUNT = 84;

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["torch", "transformers", "numpy"]),
    `models drawn by seed ${drawnSeed} have transformers' logits, or are refused`,
  ),
  fn: () =>
    withFolder(async (folder) => {
      const cases = await drawCases<Case[]>("draw_checkpoints.py", COUNT, folder);
      assert(cases.length > 0.7 * COUNT, `transformers has loaded ${cases.length} of ${COUNT}`);
      const backend = new ReferenceBackend(), refused: string[] = [];
      for (const { name, form, left, contextLength, ids, logits } of cases) {
        const told = `seed ${drawnSeed}, ${name}, ${form}${left.length > 0 ? ` without ${left}` : ""}`;
        const source = await readHfFolder(diskFolder(`${folder}/${name}`));
        let model;
        try {
          model = openSource(source, backend, contextLength === undefined ? {} : { contextLength });
        } catch (error) {
          if (!(error instanceof ModelFormatError)) throw error;
          assertEquals(form, "sparse", `${told}: ${error.message}`);
          refused.push(told);
          continue;
        }
        const want = new Float32Array(Uint8Array.fromBase64(logits).buffer);
        const size = Math.sqrt(want.reduce((sum, x) => sum + x * x, 0) / want.length);
        for (const piece of [ids.length, 7, 1]) {
          const sequence = model.start();
          for (let at = 0; at < ids.length; at += piece) {
            const fed = Int32Array.from(ids.slice(at, at + piece));
            const own = f32Data(backend.read(model.logits(sequence.feed(fed))));
            const first = at * model.config.vocabSize;
            const far = own.reduce((most, x, i) => Math.max(most, Math.abs(x - want[first + i]!)), 0);
            assertLessOrEqual(far / size, BAR, `${told}, ${piece} tokens at a time`);
          }
          sequence.free();
        }
      }
      assert(refused.length <= 0.2 * cases.length, `${refused.length} refused: ${refused.join("; ")}`);
    }),
});
