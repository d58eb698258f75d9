/** Decisions of leave-one-out on each level of the CPU library, and on a GPU: those of the reference, on drawn cases. */
import { assert, assertEquals } from "@std/assert";
import { openTested, testedLevels } from "../../../kernels/testing/ways.ts";
import { ON_DEVICE, openTestDevice } from "../../../ffi/cuda/testing.ts";
import { RUNS_SLOW } from "../../testing.ts";
import { uniform } from "../../filter/testing.ts";
import { createPruner, type MethodOptions } from "../../methods/mod.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, truth, weights } from "../small_testing.ts";
import { uploadWeights } from "../upload_testing.ts";

const CASES = 40, COUNT = 120, next = uniform(11);
const below = (n: number) => Math.floor(next() * n);
const one = <T>(of: readonly T[]) => of[below(of.length)]!;

/** Options, retrieval scores of KV heads, and feeds of {@linkcode COUNT} tokens in all. */
const drawn = Array.from({ length: CASES }, () => {
  const options: MethodOptions = {
    ...{ side: "key", kvFusion: "leave-one-out", warmup: 1 + below(24), recent: 2 * (1 + below(16)) },
    ...{
      block: 1 + below(40),
      kvRatio: 0.1 + 0.5 * next(),
      whole: one(["none", "heads"]),
      wholeFraction: 0.5,
    },
    ...{ threshold: one(["budget", "window", "robbins-monro"]), invert: next() < 0.2 },
  };
  const feeds: number[] = [];
  for (let left = COUNT; left > 0; left -= feeds.at(-1)!) feeds.push(Math.min(left, one([1, 7, 40, COUNT])));
  return { options, feeds, scores: Array.from({ length: 6 }, next) };
});

type Drawn = (typeof drawn)[0];

const told = (keep: ReadonlyMap<number, Uint8Array>) =>
  [...keep].map(([layer, mask]) => `${layer}: ${mask.join("")}`);

function start(model: Model, { options, scores }: Drawn) {
  const { backend: on } = model;
  const pruner = createPruner("token-filtering", CONFIG, options, { backend: on, retrieval: () => scores });
  return { on, pruner, sequence: model.start(pruner) };
}

function decide(model: Model, drawn: Drawn) {
  const { on, sequence } = start(model, drawn);
  let at = 0;
  for (const count of drawn.feeds) on.free(sequence.feed(ids(COUNT).slice(at, at += count)));
  return told(sequence.kvKeep);
}

/** The same in steps of a batch: of a sequence's tokens, all or those behind the first feed. */
function decideInBatch(model: Model, drawn: Drawn) {
  const { on, pruner, sequence } = start(model, drawn), all = ids(COUNT), first = drawn.feeds[0]! % COUNT;
  using decoder = model.startBatch(pruner, { batch: 3, capacity: COUNT });
  if (first > 0) on.free(sequence.feed(all.slice(0, first)));
  decoder.begin(0);
  decoder.admit(2, sequence);
  const found: string[][] = [];
  for (let step = 0; step < COUNT; step++) {
    decoder.step(Int32Array.of(all[step]!, 0, all[first + step] ?? 0));
    if (first + step === COUNT - 1) found.push(told(decoder.judged(2)!));
    if (first + step === COUNT - 1) decoder.release(2);
  }
  return [...found, told(decoder.judged(0)!)];
}

Deno.test(`leave-one-out decides as the reference on ${CASES} drawn cases, at every level`, async () => {
  const backends = await Promise.all((await testedLevels()).map((level) => openTested({ level })));
  const devices = ON_DEVICE ? [(await openTestDevice()).backend] : [];
  const models = [...backends, ...devices].map((on) => new Model(CONFIG, uploadWeights(weights, on), on));
  let dropped = 0;
  for (const [i, one] of drawn.entries()) {
    const want = decide(truth, one);
    for (const model of models) {
      const message = `case ${i}, ${model.backend.description}`;
      assertEquals(decide(model, one), want, message);
      if (model !== models.at(-1) || !RUNS_SLOW && i % 5 !== 0) continue;
      assertEquals(decideInBatch(model, one), [want, want], `${message}, in a batch`);
    }
    dropped += Number(want.some((keep) => keep.slice(3).includes("0")));
  }
  assert(dropped > CASES * 0.8, `${dropped} cases drop`);
});
