/** The CPU library's models of every architecture against Hugging Face transformers, and filtered as the reference's. */
import { openTested, testedLevels } from "../kernels/testing/ways.ts";
import { assert } from "@std/assert";
import type { Backend } from "../lib/backend.ts";
import { WEIGHT_DTYPES } from "../lib/dtype.ts";
import {
  assertCheckpoint,
  distanceOf,
  LOGIT_BAR,
  logitsInBatch,
  logitsOf,
  openSource,
} from "../lib/model/checkpoint_golden_testing.ts";
import {
  assertSame,
  decodeFiltered,
  ONE_OF_EACH,
  openCheckpoint,
  runFiltered,
} from "../lib/model/checkpoint_methods_testing.ts";
import { CHECKPOINTS, NAMES, paddedFolder } from "../lib/model/testdata/checkpoints.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";

const backend = await openTested({ threads: 1 });

Deno.test("the CPU library has transformers' logits of every architecture, in pieces too", () => {
  for (const name of NAMES) {
    const model = openCheckpoint(name, backend);
    for (const piece of [undefined, 11, 1]) assertCheckpoint(name, model, piece);
  }
});

Deno.test("the CPU library has them in a batch too", () => {
  for (const name of NAMES) {
    const distance = distanceOf(name, logitsInBatch(openCheckpoint(name, backend)));
    assert(distance <= LOGIT_BAR, `${name}: found logits ${distance} off, expected ${LOGIT_BAR}`);
  }
});

Deno.test("the CPU library filters every architecture as the reference does, in a batch too", () => {
  for (const name of ONE_OF_EACH) {
    const model = openCheckpoint(name, backend);
    const expected = runFiltered(openCheckpoint(name, new ReferenceBackend()), "variance");
    assertSame(runFiltered(model, "variance"), expected, name);
    assertSame(decodeFiltered(model, "variance"), expected, `${name}, batch`);
  }
});

/** How far logits are from transformers' where matrices are rounded to a type: at most, and at least a tenth of it. */
const ROUNDED = { f32: 2e-6, bf16: 0.05, f16: 0.005, q8_0: 0.1, q4_0: 1.5 } as const;

Deno.test("matrices of each type that they can be turned into: logits within its error, the same on all levels tested", async () => {
  const levels = (await testedLevels()).map((level) => openTested({ level, threads: 1, blas: "none" }));
  const backends = await Promise.all(levels);
  for (const name of ["gemma3", "qwen3"] as const) {
    for (const dtype of WEIGHT_DTYPES) {
      const open = (on: Backend) =>
        openSource(paddedFolder(name), on, { ...CHECKPOINTS[name].options, dtype });
      const expected = logitsOf(open(new ReferenceBackend()));
      const off = distanceOf(name, expected), most = ROUNDED[dtype];
      assert(
        off <= most && off >= most / 10,
        `${name} in ${dtype}: found logits ${off} off, expected ${most}`,
      );
      for (const backend of backends) {
        for (const piece of [undefined, 1]) {
          const found = logitsOf(open(backend), piece);
          const far = found.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0);
          assert(
            far <= 2e-5,
            `${name} in ${dtype}, ${backend.description}: found logits ${far} off the reference's`,
          );
        }
      }
    }
  }
});
