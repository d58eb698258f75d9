/** Methods that alter a model against an independent implementation in torch: the parts that stay, and the logits. */
import { assert, assertEquals } from "@std/assert";
import {
  type Alteration,
  createPruner,
  definePruner,
  type LayerAlteration,
  type OFFLINE,
  preparationOf,
} from "../../methods/mod.ts";
import { f32Data } from "../../tensor.ts";
import { goldenIds, openSource } from "../checkpoint_golden_testing.ts";
import golden from "../testdata/pruning_golden.json" with { type: "json" };
import checkpoints from "../testdata/checkpoint_golden.json" with { type: "json" };
import { type CheckpointName, hfFolder } from "../testdata/checkpoints.ts";
import { backend } from "../testing.ts";

/** How far logits may be, relative to their root mean square. */
const BAR = 1e-4;

const { positions, vocabSize } = checkpoints;
const model = openSource(hfFolder(golden.checkpoint as CheckpointName), backend);
const { numKvHeads, intermediateSize } = model.config;
const calibration = {
  domain: "other",
  sha256: "",
  chunks: golden.chunks.map((ids) => Int32Array.from(ids)),
} as const;

const keptOf = ({ layers }: Alteration) =>
  layers!.map(({ groups, channels }: LayerAlteration) => [
    groups ?? Array.from({ length: numKvHeads }, (_, i) => i),
    channels ?? Array.from({ length: intermediateSize }, (_, i) => i),
  ]);

for (const [name, { kept, logits }] of Object.entries(golden.cases)) {
  Deno.test(`${name} keeps what torch keeps, and the logits are those`, () => {
    const method = name as (typeof OFFLINE)[number]["name"], options = { pruneRatio: golden.ratio };
    const own = createPruner(method, model.config, options, { calibration });
    const prepare = preparationOf(own, "alter")!;
    let alteration: Alteration = {};
    const watched = {
      ...definePruner(own),
      prepare: {
        ...prepare,
        alter: (onText: Parameters<typeof prepare.alter>[0]) => alteration = prepare.alter(onText),
      },
    };
    const hidden = model.start(watched).feed(goldenIds), all = f32Data(backend.read(model.logits(hidden)));
    assertEquals(keptOf(alteration), kept as number[][][]);
    const want = new Float32Array(Uint8Array.fromBase64(logits).buffer);
    const size = Math.sqrt(want.reduce((sum, x) => sum + x * x, 0) / want.length);
    positions.forEach((position, row) => {
      for (let i = 0; i < vocabSize; i++) {
        const far = Math.abs(all[position * vocabSize + i]! - want[row * vocabSize + i]!) / size;
        assert(far <= BAR, `position ${position}, token ${i}: ${far} off`);
      }
    });
  });
}
