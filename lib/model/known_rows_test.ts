import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Backend, Product } from "../backend.ts";
import { createPruner, METHODS, type Pruner } from "../methods/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { f32Data, hostTensor, type Tensor } from "../tensor.ts";
import { equalRows, KnownRows, rowsToCopy } from "./known_rows.ts";
import { Model } from "./model.ts";
import { CONFIG, filtering, ids, weights } from "./small_testing.ts";

const any = () => true;
/** A matrix whose rows are `rows` times 1 and 10. */
const matrix = (rows: readonly number[]) =>
  hostTensor("f32", [rows.length, 2], Float32Array.from(rows.flatMap((row) => [row, 10 * row])));
const empty = (rows: number, width = 1) => hostTensor("f32", [rows, width], new Float32Array(rows * width));
/** Sums of rows times a weight's first value, and the numbers of rows that it was asked for. */
function multiplier() {
  const asked: number[] = [];
  const multiply = (x: Tensor, products: readonly Product[]) => {
    asked.push(x.shape[0]!);
    for (const { weight, out } of products) {
      const [k, n] = [x.shape[1]!, out.shape[1]!], own = f32Data(x), factor = f32Data(weight)[0]!;
      f32Data(out).forEach((_, i, all) => all[i] = factor * own[Math.floor(i / n) * k]!);
    }
  };
  return { asked, multiply };
}

Deno.test("equalRows() counts the first rows whose bits are the same", () => {
  const x = matrix([1, 2, 3, 4]);
  assertEquals(equalRows(x, matrix([1, 2, 3, 4, 5])), 4);
  assertEquals(equalRows(matrix([1, 2, 3, 4, 5]), x), 4);
  assertEquals([equalRows(x, matrix([1, 2, 4, 4])), equalRows(x, matrix([0, 2]))], [2, 0]);
  const late = matrix([1, 2, 3, 4]);
  late.data[5] = 31;
  assertEquals(equalRows(x, late), 2);
  assertEquals([equalRows(matrix([0]), matrix([-0])), equalRows(matrix([NaN]), matrix([NaN]))], [0, 1]);
});

Deno.test("rowsToCopy() leaves more rows than have products of their own, or none", () => {
  const cases = [[0, 30], [20, 30], [25, 30], [30, 30], [3, 9], [3, 5], [-4, 30]] as const;
  assertEquals(cases.map(([same, total]) => rowsToCopy(same, total, 8)), [0, 20, 21, 30, 0, 0, 0]);
});

Deno.test("KnownRows multiplies rows once, while a feed begins as one before did", () => {
  const { asked, multiply } = multiplier(), known = new KnownRows({ rowsAlone: 1 }, any);
  const [a, b] = [matrix([2]), matrix([3])],
    [two, five] = [2, 5].map((width) => (rows: number) => empty(rows, width));
  const run = (rows: readonly number[], count: number, own: readonly Tensor[] = [a, b]) => {
    const feed = known.feed(count), x = matrix(rows);
    const products = own.map((weight) => ({ weight, out: (weight === a ? two! : five!)(rows.length) }));
    feed.multiply(x, products, products.length, multiply);
    for (const { weight, out } of products) {
      const n = out.shape[1]!, factor = f32Data(weight)[0]!;
      assertEquals([...f32Data(out)], rows.flatMap((row) => Array<number>(n).fill(factor * row)));
    }
    return { feed, x, products };
  };
  run([1, 2, 3, 4], 2);
  assertEquals(asked.splice(0), [4]);
  const { feed, x, products } = run([1, 2, 5, 6], 2);
  assertEquals(asked.splice(0), [2]);
  // The second product of a weight in a feed is of other rows.
  feed.multiply(x, products, 2, multiply);
  assertEquals(asked.splice(0), [4]);
  run([1, 7, 5, 6], 2);
  run([8, 2, 5, 6], 2);
  run([1, 2, 5], 2); // one row alone has a product of its own
  run([1, 2], 2);
  run([1], 2);
  assertEquals(asked.splice(0), [3, 4, 2, 1]);
  run([1, 2, 3, 9], 3, [b]); // one of them
  run([1, 2, 3, 4, 5], 3, [b]);
  run([1, 2, 3, 4, 5], 3, [a]);
  assertEquals(asked.splice(0), [2, 2, 3]);
  run([1, 2, 3, 4, 5], 3); // known, but not of one x
  assertEquals(asked.splice(0), [5]);
});

Deno.test("KnownRows says what copied rows took, and keeps no more than there is room for", () => {
  const asked: number[] = [], sizes: number[] = [];
  const known = new KnownRows({ rowsAlone: 0 }, (bytes) => sizes.push(bytes) < 2);
  const weight = matrix([2]), other = matrix([3]), x = matrix([1, 2, 3, 4]);
  const slow = (x: Tensor) => {
    asked.push(x.shape[0]!);
    for (const end = performance.now() + 4; performance.now() < end;);
  };
  const run = (products: readonly Product[], results = products.length) => {
    const feed = known.feed(3);
    feed.multiply(x, products, results, slow);
    return feed.savedMs;
  };
  const both = [{ weight, out: empty(4, 1) }, { weight: other, out: empty(4, 3) }];
  assertEquals(run(both), 0);
  const ms = known.groups.get(weight)!.ms;
  assert(ms >= 3, `${ms} ms of 4 or more, for 3 rows of 4`);
  assertAlmostEquals(run(both), ms, 1e-9);
  assertAlmostEquals(run(both.slice(0, 1)), ms / 4, 1e-9); // one column of four
  assertEquals(asked, [4, 1, 1]);
  const third = { weight: matrix([4]), out: empty(4, 2) };
  assertEquals([run([third]), run([third])], [0, 0]);
  assertEquals([asked.slice(3), sizes], [[4, 4], [4 * 3 * (2 + 4), 4 * 3 * (2 + 2), 4 * 3 * (2 + 2)]]);
});

Deno.test("KnownRows keeps the results that are asked for: of a gate and its partner the first", () => {
  const { asked, multiply } = multiplier(), known = new KnownRows({ rowsAlone: 0 }, any);
  const gate = matrix([2]), up = matrix([3]), x = matrix([1, 2, 3]);
  for (let turn = 0; turn < 2; turn++) {
    const out = empty(3);
    known.feed(2).multiply(x, [{ weight: gate, out }, { weight: up, out: empty(3) }], 1, multiply);
    assertEquals([...f32Data(out)], [2, 4, 6]);
  }
  assertEquals([asked, [...known.groups.keys()]], [[3, 1], [gate]]);
});

/** Methods with a warm-up; others have nothing in common. */
const FILTERED: readonly (readonly [name: string, create: () => Pruner])[] = [
  ...METHODS.map(({ name }) =>
    [name, () => createPruner(name, CONFIG, { pruneRatio: 0.5, warmup: 16 } as never)] as const
  ),
  ["learned", () => filtering({ fusion: "learned", pruneRatio: 0.4, keyState: "pre-rope" })],
  ["local", () => filtering({ pruneRatio: 0.5, substitute: "local", recent: 4 })],
  ["received", () => filtering({ side: "key", kvFusion: "received", kvRatio: 0.5, warmup: 16, block: 8 })],
];

Deno.test("sequences that share the rows of their warm-up are as without, to the last bit", () => {
  const count = { rows: 0 }, backend: Backend = new ReferenceBackend();
  const counted = Object.assign(Object.create(backend) as Backend, {
    linears: (...args: Parameters<Backend["linears"]>) => {
      count.rows += args[0].shape[0]!;
      backend.linears(...args);
    },
  });
  const model = new Model(CONFIG, weights, counted), known = new KnownRows(counted, any);
  const tokens = ids(60), spared: string[] = [];
  const run = (pruner: Pruner, own?: KnownRows) => {
    const feed = own?.feed(pruner.warmup), before = count.rows;
    const sequence = model.start(pruner, feed && { known: feed });
    const found = [f32Data(sequence.feed(tokens))];
    if (pruner.looksAhead === "nothing") found.push(f32Data(sequence.feed(ids(5, 1))));
    return { found, usage: sequence.usage(), keep: sequence.keep, rows: count.rows - before };
  };
  for (const [name, create] of FILTERED) {
    const { rows, ...alone } = run(create()), shared = run(create(), known);
    assertEquals({ ...shared, rows: 0 }, { ...alone, rows: 0 }, name);
    assert(shared.rows <= rows, name);
    if (shared.rows < rows) spared.push(name);
  }
  assert(["random", "learned", "local", "received"].every((name) => spared.includes(name)), spared.join());
});
