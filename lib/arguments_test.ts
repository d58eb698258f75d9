/** What plain JavaScript may hand in: each wrong argument of the public API is refused by its name. */
import { assertThrows } from "@std/assert";
import { tallySkips } from "./eval/mod.ts";
import { HeadCollection } from "./heads/mod.ts";
import { createReplay } from "./methods/mod.ts";
import {
  createCustomRule,
  createPruner,
  loadModel,
  ReferenceBackend,
  scoreSequence,
  TokenFilter,
} from "../mod.ts";

const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
const plan = { pruneRatio: 0.25, tail: 0.5, warmup: 8 };
const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());

const f32 = (length: number) => new Float32Array(length).fill(1);
const start = (fusion: "variance" | "learned" = "variance") =>
  new TokenFilter(shape, { ...plan, fusion }).start();
// deno-lint-ignore no-explicit-any
const any = (value: unknown): any => value;
const uneven = { ...shape, numHeads: 3, numKvHeads: 2 };
const UNEVEN = 'found 3 for "numHeads", expected a multiple of numKvHeads, 2';

const TYPES: { readonly [message: string]: () => unknown } = {
  '"keys": found Array, expected Float32Array or a tensor': () => start().step(2, any([1, 0]), f32(2)),
  '"values": found Float64Array, expected Float32Array': () =>
    start().step(2, f32(2), any(new Float64Array(2))),
  '"keys": found null, expected Float32Array': () => start().scan(2, any(null), f32(2)),
  '"keys": found number, expected Float32Array': () => start().scan(2, any(3), f32(2)),
  '"residual": found Array, expected Float32Array': () =>
    start("learned").scan(2, f32(4), f32(4), any({ residual: [1, 2, 3, 4, 1, 2, 3, 4], normed: f32(8) })),
  '"outputNorms": found Array, expected Float64Array': () =>
    start("learned").observe(2, any([1]), new Float64Array(1)),
  '"residualNorms": found string, expected Float64Array': () =>
    start("learned").observe(2, new Float64Array(1), any("1")),
  '"name": found Object, expected string': () => createPruner(any({ ...shape }), any({ pruneRatio: 0.5 })),
  '"shape": found null, expected object': () => createPruner("oracle", any(null)),
  '"shape": found undefined, expected object': () => new TokenFilter(any(undefined)),
  '"score": found number, expected function': () => createCustomRule(shape, any(3)),
  '"ids": found Array, expected Int32Array': () => model.start().feed(any([1, 2])),
  '"ids": found undefined, expected Int32Array': () => scoreSequence(model, any(undefined)),
  '"ids": found Float64Array, expected Int32Array': () =>
    new HeadCollection(model, any(new Float64Array(40))),
  '"start of a pruner": found undefined, expected function': () => model.start(any({})),
  '"start of a pruner": found undefined, expected function ': () => model.start(any(null)),
  '"text": found number, expected string': () => tokenizer.encode(any(3)),
  '"keep": found Object, expected Map': () => createReplay(shape, { keep: any({}) }),
  '"keep of layer 2": found Array, expected Uint8Array': () =>
    createReplay(shape, { keep: new Map([[2, any([1])]]) }),
  '"keep": found Object, expected Map ': () => tallySkips(2, 1, [{ length: 2, keep: any({}) }]),
};

const RANGES: { readonly [message: string]: () => unknown } = {
  '"keys": found 3 numbers, expected a multiple of 2 (1 x 2)': () => start().step(2, f32(3), f32(2)),
  "Cannot step layer 2: found 2 tokens, expected 1": () => start().step(2, f32(4), f32(2)),
  "values": () => start().scan(2, f32(4), f32(2)),
  [UNEVEN]: () => createPruner("oracle", uneven),
  [`${UNEVEN} `]: () => createPruner("token-filtering", uneven),
  [`${UNEVEN}  `]: () => createCustomRule(uneven, () => 1),
  [`${UNEVEN}   `]: () => new TokenFilter(uneven),
};

for (const [type, cases] of [[TypeError, TYPES], [RangeError, RANGES]] as const) {
  Deno.test(`wrong arguments of the public API are refused by name: ${type.name}`, () => {
    for (const [message, call] of Object.entries(cases)) assertThrows(call, type, message.trim());
  });
}
