/**
 * However a sequence is fed, its tokens get the same hidden states and decisions: in one prefill of any length, token by
 * token, in chunks, and together with another sequence. The number of rows that a method picks may equal the number of rows
 * that were fed, so that consecutive lengths are tried, not a few round ones.
 */
import { assertEquals } from "@std/assert";
import {
  createPruner,
  KEY_RULE_NAMES,
  METHOD_NAMES,
  type MethodOptions,
  type Pruner,
  takesWhole,
} from "../../methods/mod.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import { f32Data } from "../../tensor.ts";
import { RUNS_SLOW } from "../../testing.ts";
import { Model } from "../model.ts";
import type { ModelSequence } from "./sequence.ts";
import { CONFIG, randomWeights } from "../small_testing.ts";

const config = {
  ...CONFIG,
  ...{ numLayers: 2, numHeads: 2, numKvHeads: 1, headDim: 8, hiddenSize: 16, intermediateSize: 16 },
  contextLength: 512,
};
const model = new Model(config, randomWeights(config) as never, new ReferenceBackend());
const LONGEST = 260, WIDTH = config.hiddenSize;
const IDS = Int32Array.from({ length: LONGEST }, (_, i) => (i * i * 7 + i * 31) % config.vocabSize);
const CHUNKS = [7, 31, 37, 100];

/** Options by their effect on computed rows: each method with its defaults, and options that change these rows. */
const VARIANTS: readonly MethodOptions[] = [
  { preset: "local" },
  { preset: "local", schedule: "uniform" },
  { fusion: "learned", substitute: "local", recent: 16, warmup: 64 },
  { fusion: "variance", substitute: "local", recent: 16 },
  { preset: "keys" },
  { preset: "paper" },
  ...METHOD_NAMES.map((fusion) => ({ fusion })),
  ...KEY_RULE_NAMES.map((kvFusion) => ({ side: "key", kvFusion } as const)),
];

/** A sequence's hidden states, and the decisions on queries and keys, by layer. */
interface Run {
  readonly sequence: ModelSequence;
  readonly hidden: Float32Array;
}

function run(pruner: Pruner, feeds: readonly number[]): Run {
  const sequence = model.start(pruner), rows: number[] = [];
  let at = 0;
  for (const count of feeds) rows.push(...f32Data(sequence.feed(IDS.slice(at, at += count))));
  return { sequence, hidden: Float32Array.from(rows) };
}

/** How `count` tokens are fed in chunks. */
const inChunks = (count: number, chunk: number) =>
  Array.from({ length: Math.ceil(count / chunk) }, (_, i) => Math.min(chunk, count - i * chunk));

const retrieval = () => [1, 0];
const pruners = VARIANTS.map((options) => createPruner("token-filtering", config, options, { retrieval }));

/** Throws unless a run is the first tokens of a longer one. Keys are decided late: their decisions are those so far. */
function assertPrefix({ sequence, hidden }: Run, whole: Run, title: string): void {
  assertEquals(hidden, whole.hidden.subarray(0, hidden.length), title);
  for (const [layer, keep] of sequence.keep) {
    assertEquals(
      keep,
      whole.sequence.keep.get(layer)!.subarray(0, keep.length),
      `${title}, queries of ${layer}`,
    );
  }
}

/** Lengths of one prefill: all in two decision blocks where a method computes rows twice, else some of each method. */
function lengthsOf(options: MethodOptions, i: number): number[] {
  if (RUNS_SLOW) return Array.from({ length: LONGEST - 128 }, (_, n) => 129 + n);
  const computesTwice = "substitute" in options || options.preset === "local";
  if (computesTwice) return Array.from({ length: 32 }, (_, n) => 161 + n);
  return [0, 1].map((n) => 129 + (i * 13 + n * 47) % (LONGEST - 129));
}

for (const [i, pruner] of pruners.entries()) {
  if (takesWhole(pruner)) continue;
  const options = VARIANTS[i]!;

  Deno.test(`${JSON.stringify(options)}: prefills, chunks, steps and company give the same`, () => {
    const steps = run(pruner, Array<number>(LONGEST).fill(1));
    for (const chunk of RUNS_SLOW ? CHUNKS : [CHUNKS[i % CHUNKS.length]!, 37]) {
      const chunked = run(pruner, inChunks(LONGEST, chunk)), title = `chunks of ${chunk}`;
      assertPrefix(chunked, steps, title);
      assertEquals(chunked.sequence.kvKeep, steps.sequence.kvKeep, title);
    }
    for (const length of lengthsOf(options, i)) {
      assertPrefix(run(pruner, [length]), steps, `${length} tokens`);
    }
    const dense = model.start(), sequence = model.start(pruner);
    for (let at = 0; at < LONGEST; at += 37) {
      const ids = IDS.slice(at, at + 37), feeds = [dense, sequence].map((sequence) => ({ sequence, ids }));
      const hidden = f32Data(model.feedTogether(feeds)).subarray(ids.length * WIDTH);
      assertEquals(
        hidden,
        steps.hidden.subarray(at * WIDTH, (at + ids.length) * WIDTH),
        `together from ${at}`,
      );
    }
    assertEquals(sequence.kvKeep, steps.sequence.kvKeep);
  });
}
