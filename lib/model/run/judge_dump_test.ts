/** A dump of a layer's keys, values and queries is decided as the model itself decides that layer. */
import { assert, assertEquals } from "@std/assert";
import { createPruner, EVICTIONS, KEY_RULES, type KeySide, type LayerView } from "../../methods/mod.ts";
import { definePruner } from "../../methods/protocol/pruner.ts";
import { isEviction } from "../../methods/protocol/method.ts";
import { isOfKeys, TOKEN_ROWS } from "../../methods/protocol/signals.ts";
import { f32Data, hostTensor, type Tensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";
import { judgeDump } from "./judge_dump.ts";
import { headWeights } from "./signals.ts";

const model = new Model({ ...CONFIG, numLayers: 2 }, weights as never, backend), LAYER = 1, COUNT = 104;
const { numHeads, numKvHeads, headDim } = model.config, scale = 1 / Math.sqrt(headDim);
const plan = { warmup: 8, recent: 6, block: 8 };

/** Keys, values and queries of a layer that nothing below filters, as another engine would dump them. */
function dumpLayer(): { readonly keys: Tensor; readonly values: Tensor; readonly queries: Tensor } {
  const kept = new Map<string, Tensor>();
  const take = (view: LayerView) => {
    for (
      const [name, heads] of [["keys", numKvHeads], ["values", numKvHeads], ["queries", numHeads]] as const
    ) {
      kept.set(name, hostTensor("f32", [COUNT, heads, headDim], f32Data(backend.read(view[name]!)).slice()));
    }
    return {};
  };
  const sequence = { decide: take, judge: () => ({ drop: [] }), fork: () => sequence };
  const keySide: KeySide = { layers: [LAYER], needs: ["queries"], at: "block", start: () => sequence };
  model.start(definePruner({ name: "dump", layers: [], start: () => sequence, spans: plan, keySide })).feed(
    ids(COUNT),
  );
  return Object.fromEntries(kept) as ReturnType<typeof dumpLayer>;
}

const dump = dumpLayer();

/** Methods that decide by what a dump has: not by probes, keys before rotary embedding, nor signals of a model or other layers. */
const ON_DUMPS = [...EVICTIONS, ...KEY_RULES].filter((method) =>
  !isEviction(method) || method.heads === undefined && method.keyState === undefined &&
    method.reads(plan).every(({ signal, layers = [0] }) =>
      String(layers) === "0" && (signal in TOKEN_ROWS || isOfKeys({ signal }))
    )
);

for (const { name: kvFusion } of ON_DUMPS) {
  Deno.test(`judgeDump() evicts by ${kvFusion} what the model does`, () => {
    const ratios = { kvRatio: 0.25, schedule: "explicit", skipRatios: [0, 0.5] } as const;
    const own = { side: "key", kvFusion, ...plan } as const;
    const sequence = model.start(createPruner("token-filtering", model.config, { ...own, ...ratios }));
    sequence.feed(ids(COUNT));
    const shape = { ...model.config, numLayers: 1 };
    // Rules of signals of queries are as the model has them where a trace takes their decisions, which changes none.
    const context = { backend, keyTrace: () => {}, rankTrace: () => {} };
    const { spans, keySide } = createPruner(
      "token-filtering",
      shape,
      { ...own, ...ratios, skipRatios: [0.5] },
      context,
    );
    const { asks, heads, needs, start } = keySide!;
    const judge = judgeDump(backend, {
      ...{ layer: 0, spans, sequence: start(), ask: asks?.get(0), parts: heads?.get(0) },
      foresees: needs.includes("future attention"),
    }, { ...dump, scale, headWeights: headWeights(model, LAYER) });
    const expected = sequence.kvEnds.get(LAYER)!;
    assertEquals(judge.ends(COUNT).get(0), expected);
    const gone = expected.flatMap((ends) => [...ends]).filter((end) => end < COUNT);
    assert(gone.length >= 35 * expected.length, `${gone.length} evicted`);
  });
}
