import { assert, assertEquals, assertThrows } from "@std/assert";
import { makeStream } from "../../filter/testing.ts";
import type { ScanOutput } from "../../filter/layer.ts";
import { type HostTensor, rowsOf, type Tensor } from "../../tensor.ts";
import { createCustomRule, createPruner, type Pruner, type ScoredToken } from "../mod.ts";

const COUNT = 300;
const shape = { numLayers: 4, numHeads: 4, numKvHeads: 2, headDim: 8, hiddenSize: 16 };
const plan = { pruneRatio: 0.4, tail: 0.5, warmup: 16 };
const stream = makeStream(5, {
  count: COUNT,
  numKvHeads: 2,
  headDim: 8,
  hiddenSize: 16,
  drift: 0.5,
  noise: 1.5,
});
const meanOf = ({ muK, muV }: ScoredToken) => (muK + muV) / 2;

/** Decisions on layer 2, fed in pieces that end at `ends`. */
function run(pruner: Pruner, ends: readonly number[], sequence = pruner.start(), from = 0): string {
  let decided = "";
  for (const to of ends) {
    const part = (tensor: typeof stream.keys) => rowsOf(tensor, from, to);
    const input = {
      layer: 2,
      count: to - from,
      keys: part(stream.keys),
      values: part(stream.values),
      residual: part(stream.residual),
      normed: part(stream.normed),
    };
    for (let start = 0; start < input.count;) {
      const keep = sequence.decide(input, start).keep!;
      decided += keep.join("");
      start += keep.length;
    }
    from = to;
  }
  return decided;
}

const POLICIES = [
  {},
  { threshold: "window" },
  { threshold: "robbins-monro" },
  { threshold: "fixed", theta: 0.2 },
  { threshold: "topk" },
  { invert: true },
] as const;
for (const options of POLICIES) {
  Deno.test(`createCustomRule() decides as the rule "mean" does where it is given that score: ${JSON.stringify(options)}`, () => {
    const own = run(createCustomRule(shape, meanOf, { ...plan, ...options }), [COUNT]);
    assertEquals(
      own,
      run(createPruner("token-filtering", shape, { ...plan, ...options, fusion: "mean" }), [COUNT]),
    );
    assert(own.includes("0") && own.length === COUNT);
  });
}

Deno.test("createCustomRule() decides alike however a sequence is cut, and forks apart", () => {
  const pruner = createCustomRule(shape, ({ value }) => -Math.hypot(...value), plan);
  const whole = run(pruner, [COUNT]);
  assertEquals(run(pruner, [1, 20, 21, 150, COUNT]), whole);
  const sequence = pruner.start();
  const head = run(pruner, [150], sequence), fork = sequence.fork();
  assertEquals(head + run(pruner, [COUNT], sequence, 150), whole);
  assertEquals(head + run(pruner, [COUNT], fork, 150), whole);
});

Deno.test("createCustomRule() shows each token's own rows, in order", () => {
  const seen: number[] = [];
  run(
    createCustomRule(shape, ({ layer, position, key, value, residual, normed, muK }) => {
      assertEquals(layer, 2);
      assertEquals(Number.isNaN(muK), position === 0);
      for (const [row, tensor] of [[key, stream.keys], [value, stream.values]] as const) {
        assertEquals([...row], [...tensor.data.slice(16 * position, 16 * (position + 1))]);
      }
      for (const [row, tensor] of [[residual, stream.residual], [normed, stream.normed]] as const) {
        assertEquals([...row], [...tensor.data.slice(16 * position, 16 * (position + 1))]);
      }
      seen.push(position);
      return position;
    }, plan),
    [40, 41],
  );
  assertEquals(seen, Array.from({ length: 41 }, (_, t) => t));
});

Deno.test("createCustomRule() computes here, on what the backend reads, since no kernel has the rule", () => {
  const read: Tensor[] = [];
  const none = () => {
    throw new Error("the kernels are not to be called");
  };
  const backend = {
    kvFilterScan: none,
    kvFilterObserve: none,
    read: (tensor: Tensor) => (read.push(tensor), tensor as HostTensor),
  };
  const pruner = createCustomRule(shape, meanOf, plan, { backend });
  assertEquals(run(pruner, [COUNT]), run(createCustomRule(shape, meanOf, plan), [COUNT]));
  assertEquals([read.length, pruner.specs], [4, undefined]); // keys, values, residual, normed
});

Deno.test("createCustomRule() refuses the first score that is no finite number, by token and layer", () => {
  const refuse = (score: unknown, type: typeof TypeError | typeof RangeError, found: string, at = 20) => {
    const rule = ({ position }: ScoredToken) => (position === at ? score : 1) as number;
    const error = `Cannot score token ${at} of layer 2: found ${found}, expected a finite number`;
    assertThrows(() => run(createCustomRule(shape, rule, plan), [COUNT]), type, error);
  };
  refuse(undefined, TypeError, "undefined");
  refuse("0.5", TypeError, '"0.5"');
  refuse(Promise.resolve(1), TypeError, "a Promise");
  refuse(undefined, TypeError, "undefined", 0);
  refuse(NaN, RangeError, "NaN");
  refuse(NaN, RangeError, "NaN", 1);
  refuse(-Infinity, RangeError, "-Infinity");
  refuse(Infinity, RangeError, "Infinity", 0);
});

Deno.test("createCustomRule() keeps a first token without a score, and traces what it decided", () => {
  const rows: ScanOutput[] = [];
  const pruner = createCustomRule(shape, ({ position }) => position === 0 ? NaN : 1, plan, {
    trace: (row) => void rows.push(row),
  });
  assertEquals(run(pruner, [50]), "1".repeat(50));
  assertEquals(rows.length, 1);
  assertEquals([...rows[0]!.redundancy], [NaN, ...Array(49).fill(1)]);
});

Deno.test("createCustomRule() gives copies: what a rule writes into them changes nothing", () => {
  const parts = ["keys", "values", "residual", "normed"] as const;
  const before = parts.map((part) => stream[part].data.slice());
  const spoil: typeof meanOf = (token) => {
    const { key, value, residual, normed } = token;
    for (const row of [key, value, residual, normed]) row.fill(1e9);
    assert(token.key === key, "copied once");
    return meanOf(token);
  };
  assertEquals(
    run(createCustomRule(shape, spoil, plan), [COUNT]),
    run(createCustomRule(shape, meanOf, plan), [COUNT]),
  );
  assertEquals(parts.map((part) => stream[part].data), before);
});

Deno.test("createCustomRule() refuses options that are not its own", () => {
  assertThrows(() => createCustomRule(shape, meanOf, { pruneRatio: 1.5 }), RangeError, "pruneRatio");
  assertThrows(() => createCustomRule(shape, meanOf, { pruneRatio: 0.9, tail: 0.5 }), RangeError);
});
