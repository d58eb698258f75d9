import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Backend } from "../../backend.ts";
import type { DType } from "../../dtype.ts";
import { createDropped } from "../../methods/protocol/dropped.ts";
import {
  createDense,
  type LayerView,
  type Outcomes,
  type Pruner,
  type SideSequence,
} from "../../methods/protocol/pruner.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import { countOf, f32Data, hostTensor, rowsOf, type Tensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import type { ModelSequence } from "./sequence.ts";
import { CONFIG, weights } from "../small_testing.ts";
import { backend, config, firstLayers, ids, maxDifference, patternPruner } from "../testing.ts";

const model = firstLayers(2);
const even = (t: number) => t % 2 === 0;
/** A pruner whose sequences watch their inputs. */
const watching = (pruner: Pruner, watch: (input: LayerView) => void): Pruner => ({
  ...pruner,
  start: (chunk) => {
    const inner = pruner.start(chunk);
    return { ...inner, decide: (input, start) => (watch(input), inner.decide(input, start)) };
  },
});

Deno.test("fork() makes sequences that do not touch each other, whichever goes on first", () => {
  const tokens = ids(40), other = tokens.map((id) => id === 1 ? 1 : id + 1);
  for (const recent of [0, 5]) {
    const start = () => model.start(patternPruner([0, 1], even, { recent }));
    /** States, masks and use of the last pieces of a sequence fed in one go, a piece at a time. */
    const straight = (rest: Int32Array<ArrayBuffer>) => {
      const sequence = start();
      sequence.feed(tokens.slice(0, 21));
      return [sequence.feed(rest.slice(21, 24)), sequence.feed(rest.slice(24)), ...seen(sequence)];
    };
    const seen = (sequence: ModelSequence) => [sequence.keep, sequence.usage(), sequence.length];
    const trunk = start();
    trunk.feed(tokens.slice(0, 21));
    const branch = trunk.fork();
    const [a, b] = [trunk.feed(tokens.slice(21, 24)), branch.feed(other.slice(21, 24))];
    const [c, d] = [branch.feed(other.slice(24)), trunk.feed(tokens.slice(24))];
    assertEquals([a, d, ...seen(trunk)], straight(tokens));
    assertEquals([b, c, ...seen(branch)], straight(other));
  }
});

Deno.test("free() gives back all that a sequence and its forks have allocated, but for the hidden states that they gave", () => {
  const live = new Set<Tensor>();
  const watch = (tensor: Tensor) => {
    if (countOf(tensor.shape) > 0) live.add(tensor);
    return tensor;
  };
  const watched: Backend = Object.assign(new ReferenceBackend(), {
    alloc: (dtype: DType, shape: readonly number[]) => watch(backend.alloc(dtype, shape)),
    resizeRows: (tensor: Tensor, rows: number) => watch(backend.resizeRows(tensor, rows)),
    regrowRows: (tensor: Tensor, rows: number) => {
      live.delete(tensor);
      return watch(backend.resizeRows(tensor, rows));
    },
    free: (tensor: Tensor) => void live.delete(tensor),
  });
  const inPieces = createDropped(CONFIG, { attention: [], mlp: [1], from: 2 });
  for (const pruner of [undefined, patternPruner([0], even, { recent: 2 }), inPieces]) {
    live.clear();
    const trunk = new Model(CONFIG, weights, watched).start(pruner);
    const given = [trunk.feed(Int32Array.of(1, 2, 3))], branch = trunk.fork();
    for (const sequence of [trunk, branch, trunk]) given.push(sequence.feed(Int32Array.of(2)));
    assert(live.size > 5);
    trunk.free();
    given.push(branch.feed(Int32Array.of(3, 1)));
    branch.free();
    if (pruner === inPieces) {
      const other = new Model(CONFIG, weights, watched).start(pruner);
      given.push(other.residualAt(Int32Array.of(1, 2, 3), 2));
      other.free();
    }
    assertEquals(live, new Set(given));
  }
});

Deno.test("fork() of a sequence that began above dense layers cannot be fed tokens either", () => {
  const sequence = model.start();
  sequence.feedResidual(model.residualAt(ids(3), 1), 1);
  assertThrows(() => sequence.fork().feed(ids(1)), RangeError, "have no cache");
});

Deno.test("a sequence of the dense method is that of no method", () => {
  const [sequence, dense] = [model.start(), model.start(createDense())];
  for (const piece of [ids(21), ids(3)]) assertEquals(dense.feed(piece), sequence.feed(piece));
  assertEquals([dense.keep, dense.usage()], [sequence.keep, sequence.usage()]);
});

Deno.test("feedResidual() leaves the stream as it is", () => {
  const residual = backend.read(model.residualAt(ids(4), 1)), copy = f32Data(residual).slice();
  model.start().feedResidual(residual, 1);
  assertEquals(f32Data(residual), copy);
});

Deno.test("feed() refuses tokens beyond the positions that rotary embedding was made for", () => {
  const short = new Model({ ...CONFIG, maxPositions: 4 }, weights, backend), sequence = short.start();
  sequence.feed(Int32Array.of(1, 2, 3));
  sequence.feed(Int32Array.of(4));
  assertThrows(
    () => sequence.feed(Int32Array.of(5)),
    RangeError,
    "a sequence of 5 tokens: the model's rotary embedding",
  );
});

Deno.test("start() passes the chunk and the cache's element type on", () => {
  const chunks: (number | undefined)[] = [];
  const pruner = patternPruner([1], even);
  const counting = { ...pruner, start: (chunk?: number) => (chunks.push(chunk), pruner.start()) };
  model.start(counting);
  model.start(counting, { chunk: 3 });
  assertEquals(chunks, [0, 3]);
  const row = 2 * config.numKvHeads * config.headDim;
  for (const [cacheDType, bytes] of [["f32", 4], ["f16", 2], ["bf16", 2]] as const) {
    const sequence = model.start(undefined, { cacheDType });
    const hidden = sequence.feed(ids(5)), full = model.start().feed(ids(5));
    assertEquals(sequence.usage().kvBytesHeld, 2 * 5 * row * bytes);
    assertEquals(maxDifference(hidden, full) > 0, cacheDType !== "f32");
    assert(maxDifference(hidden, full) < 0.05);
  }
});

Deno.test("decide() sees a layer's own residual stream and its normed copy", () => {
  const tokens = ids(6), seen: [Tensor, Tensor][] = [];
  const copy = (x: Tensor) => backend.resizeRows(x, x.shape[0]!);
  const pruner = watching(patternPruner([1], even), ({ residual, normed }) => {
    seen.push([copy(residual!), copy(normed!)]);
  });
  model.start(pruner).feed(tokens);
  const [[residual, normed]] = seen as [[Tensor, Tensor]];
  assertEquals(maxDifference(residual, model.residualAt(tokens, 1)), 0);
  const want = backend.alloc("f32", residual.shape);
  backend.rmsNorm(residual, model.weights.layers[1]!.attnNorm, config.rmsNormEps, want);
  assertEquals(maxDifference(normed, want), 0);
});

Deno.test("decide() sees keys before rotary embedding where asked, and attention uses them after it", () => {
  const tokens = ids(6);
  const before = patternPruner([0], even, { needs: ["pre-rope keys"] }), after = patternPruner([0], even);
  const hidden = model.start(before).feed(tokens);
  assertEquals(maxDifference(hidden, model.start(after).feed(tokens)), 0);
  const shape = [6, config.numKvHeads, config.headDim];
  const keys = hostTensor("f32", shape, Float32Array.from(before.keys.get(0)!));
  const rotated = hostTensor("f32", shape, Float32Array.from(after.keys.get(0)!));
  assert(maxDifference(keys, rotated) > 0.1);
  backend.rope(keys, hostTensor("i32", [6], Int32Array.from([0, 1, 2, 3, 4, 5])), model.turnsOf(0)!);
  assert(maxDifference(keys, rotated) < 1e-6);
});

Deno.test("decide() block by block sees and attends the same rows as in one piece", () => {
  const tokens = ids(20);
  const inBlocks = (pruner: Pruner): Pruner => ({
    ...pruner,
    start: () => {
      const inner = pruner.start();
      const decide: SideSequence["decide"] = (input, start) => {
        const taken = Math.min(3, input.count - start);
        return { keep: Uint8Array.from({ length: taken }, (_, i) => even(start + i) ? 1 : 0) };
      };
      return { ...inner, decide };
    },
  });
  for (
    const options of [{}, { recent: 4 }, { cacheSkipped: true, recent: 4 }, { needs: ["queries"] as const }]
  ) {
    const whole = model.start(patternPruner([0, 1], even, options));
    const blocks = model.start(inBlocks(patternPruner([0, 1], even, options)));
    assert(maxDifference(blocks.feed(tokens), whole.feed(tokens)) < 1e-6);
    assertEquals([blocks.keep, blocks.usage()], [whole.keep, whole.usage()]);
  }
});

Deno.test("decide() sees queries after rotary embedding where asked, and none else", () => {
  const tokens = ids(5);
  const queries: (Tensor | undefined)[] = [];
  for (const wantsQueries of [true, false]) {
    const pruner = watching(patternPruner([0], even, { needs: wantsQueries ? ["queries"] : [] }), (input) => {
      queries.push(input.queries && backend.resizeRows(input.queries, 5));
    });
    model.start(pruner).feed(tokens);
  }
  const h = backend.alloc("f32", [5, config.hiddenSize]);
  backend.rmsNorm(model.embed(tokens), model.weights.layers[0]!.attnNorm, config.rmsNormEps, h);
  const want = backend.alloc("f32", [5, config.numHeads * config.headDim]);
  backend.linear(h, model.weights.layers[0]!.q, want);
  const rows = { ...want, shape: [5, config.numHeads, config.headDim] };
  backend.rope(rows, hostTensor("i32", [5], Int32Array.from([0, 1, 2, 3, 4])), model.turnsOf(0)!);
  assertEquals(maxDifference(queries[0]!, want), 0);
  assertEquals(queries[1], undefined);
});

Deno.test("observe() is called with the norms of kept tokens alone, before their attention is added", () => {
  const tokens = ids(8);
  const all: number[][] = [], kept: number[][] = [];
  const recording = (calls: number[][], keeps: (t: number) => boolean): Pruner => {
    const pruner = patternPruner([0], keeps, { needs: ["outputs"], cacheSkipped: true });
    let rows: Tensor;
    const observe = (_layer: number, { outputNorms, residualNorms }: Outcomes) => {
      outputNorms.forEach((norm, i) => calls.push([norm, residualNorms[i]!]));
      assertEquals(backend.rowNorms(rows), backend.rowNorms(model.embed(tokens))); // nothing is added yet
    };
    const watched = watching(pruner, ({ residual }) => rows = residual!);
    return { ...watched, start: () => ({ ...watched.start(), observe }) };
  };
  model.start(recording(all, () => true)).feed(tokens);
  model.start(recording(kept, even)).feed(tokens);
  const residual = backend.rowNorms(model.embed(tokens));
  assertEquals(all.map(([, norm]) => norm), [...residual]);
  assertEquals(kept.length, 4);
  kept.forEach(([output, norm], i) => {
    assertAlmostEquals(output!, all[2 * i]![0]!, 1e-6);
    assertEquals(norm, residual[2 * i]);
  });
});

Deno.test("a non-causal pruner sees a long sequence in one piece, others at most 512 rows", () => {
  const one = firstLayers(1), tokens = ids(520);
  for (const [at, want] of [["prefill", [520]], ["arrival", [512, 8]]] as const) {
    const counts: number[] = [];
    const pruner = watching(patternPruner([0], (t) => t < 4, { at }), ({ count }) => {
      counts.push(count);
    });
    const hidden = backend.read(one.start(pruner).feed(tokens));
    assertEquals(counts, [...want]);
    assertEquals(rowsOf(hidden, 519, 520).shape, [1, config.hiddenSize]);
  }
});

Deno.test("usage() holds no recent window where skipped tokens are cached", () => {
  const sequence = model.start(patternPruner([0, 1], even, { recent: 8, cacheSkipped: true }));
  sequence.feed(ids(20));
  assertEquals(sequence.usage().kvBytesAvoided, 0);
});
