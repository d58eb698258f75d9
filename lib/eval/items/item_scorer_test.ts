import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { createDense, createPruner, type Pruner } from "../../methods/mod.ts";
import { CONFIG, filtering, truth } from "../../model/small_testing.ts";
import golden from "../../model/tokenizer/testdata/hf_tokenizer_golden.json" with { type: "json" };
import { Tokenizer } from "../../model/tokenizer/tokenizer.ts";
import { f32Data, hostTensor, type Tensor } from "../../tensor.ts";
import { reachOf } from "../filter_reach.ts";
import { encodeItem, encodeRequest } from "./encoded_item.ts";
import { ItemScorer } from "./item_scorer.ts";
import type { BranchingModel, BranchingSequence } from "../language_model.ts";
import { FOUND } from "./item_metrics.ts";
import { type Item, requestOf } from "./item.ts";
import { nextTokenNll } from "../next_token.ts";

/** A token a character, but that "ab" is one. */
const tokenizer = {
  bosId: undefined,
  encode: (text: string) =>
    Int32Array.from(text.match(/ab|./gsu) ?? [], (part) => part === "ab" ? 130 : part.codePointAt(0)! % 130),
};
const withBos = {
  bosId: 1,
  encode: (text: string) => Int32Array.of(1, ...tokenizer.encode(text)),
};

const itemOf = (id: string, context: string, choices: string[], more: Partial<Item> = {}): Item => {
  const [first, ...rest] = choices.map((choice) => requestOf(context, choice));
  return {
    id,
    place: `"x.jsonl", line ${id}`,
    requests: [first!, ...rest],
    gold: 0,
    stream: Number(id),
    ...more,
  };
};

Deno.test("encodeRequest() splits as the harness does", () => {
  const encode = (context: string, continuation: string, most?: number) => {
    const { context: before, continuation: scored } = encodeRequest(
      tokenizer,
      { context, continuation, characters: 1 },
      most,
    );
    return [[...before], [...scored]];
  };
  const code = (text: string) => [...tokenizer.encode(text)];
  assertEquals(encode("xy", " z"), [code("xy"), code(" z")]);
  assertEquals(encode("xy  ", "z"), [code("xy"), code("  z")]); // spaces at the end belong to the continuation
  // A token across the border: the continuation begins after the number of tokens that the context has.
  assertEquals(encode("xa", "bz"), [code("xa"), code("z")]);
  // Five tokens of x y z u v w may be fed, so that w is scored after x. With four, x is cut off.
  assertEquals(encode("xyz", "uvw", 5), [code("xyz"), code("uvw")]);
  assertEquals(encode("xyz", "uvw", 4), [code("yz"), code("uvw")]);
  const bos = encodeRequest(withBos, requestOf("", "z"));
  assertEquals([[...bos.context], [...bos.continuation]], [[1], code(" z")]);
  assertThrows(() => encode("", "z"), RangeError, "found an empty context");
  assertThrows(
    () =>
      encodeItem(
        tokenizer,
        itemOf("3", "xa", ["b"], { requests: [{ context: "xa", continuation: "b", characters: 1 }] }),
      ),
    RangeError,
    'Cannot score "x.jsonl", line 3: found 0 tokens for "b", expected at least one',
  );
  assertThrows(
    () => encode("x", "uvw", 2),
    RangeError,
    'found 3 tokens for "uvw", expected at least one and at most 2',
  );
});

Deno.test("encodeItem() takes special tokens that an item has in writing for tokens, as the harness does", () => {
  const { json } = golden.cases["llama-3"], hf = Tokenizer.fromHf("t.json", JSON.stringify(json));
  const [end] = hf.encode("</s>", { bos: false, special: true });
  const item = itemOf("0", "One </s>two", ["</s>", "x"], { shared: "One </s>" });
  const { requests, shared } = encodeItem(hf, item);
  const whole = hf.encode("One </s>two </s>", { special: true });
  assertEquals([...requests[0]!.context, ...requests[0]!.continuation], [...whole]);
  assertEquals([requests[0]!.continuation.at(-1), requests[0]!.context.includes(end!)], [end, true]);
  assertEquals([...requests[0]!.context.slice(0, shared)], [...hf.encode("One </s>", { special: true })]);
});

Deno.test("encodeRequest() cuts a context's end by Python's white space", () => {
  const sizes = ["\u00a0", "\x85", "\x1c", "\ufeff"].map((space) => {
    const request = { context: `xy${space}`, continuation: "z", characters: 1 };
    return encodeRequest(tokenizer, request).context.length;
  });
  assertEquals(sizes, [2, 2, 2, 3]);
});

Deno.test("encodeItem() shares the tokens that contexts have in common with the shared start, and leaves one", () => {
  const shared = (start: string, context: string) =>
    encodeItem(tokenizer, itemOf("0", context, ["u", "v"], { shared: start })).shared;
  assertEquals([shared("wxy", "wxyz"), shared("wxa", "wxabz"), shared("wxyz", "wxyz"), shared("q", "wx")], [
    3,
    2,
    3,
    0,
  ]);
  assertEquals(encodeItem(tokenizer, itemOf("0", "wx", ["u"])).shared, 0);
});

const LONG = "The rain fell on the old town, and nobody walked.";
const ITEMS = [
  itemOf("0", `${LONG} He`, ["ran.", "x", "slept well"]),
  itemOf("1", LONG.slice(20), ["u", "v"]),
  itemOf("2", `${LONG} What is this?`, ["yes it is", "no"], { shared: LONG, stream: 7 }),
  itemOf("3", `${LONG} Who is that?`, ["no one", "him"], { shared: LONG, stream: 7 }),
];
const METHODS: { [name: string]: () => Pruner | undefined } = {
  dense: () => undefined,
  variance: () => filtering({ pruneRatio: 0.5, recent: 0 }),
  random: () => filtering({ fusion: "random", pruneRatio: 0.4, recent: 4 }),
  learned: () => filtering({ fusion: "learned", pruneRatio: 0.4 }),
  "keys received": () =>
    filtering({ side: "key", kvFusion: "received", kvRatio: 0.5, recent: 4, warmup: 16 }),
};

/** Log-likelihood, masks and reach of a request, in one sequence that is fed at once. */
function scoreWhole(
  pruner: Pruner | undefined,
  context: Int32Array,
  continuation: Int32Array,
  stream: number,
) {
  const all = Int32Array.of(...context, ...continuation), fed = all.slice(0, -1);
  const sequence = truth.start(pruner, { chunk: stream });
  const nll = nextTokenNll(truth, all, sequence.feed(fed));
  const { keep, kvKeep } = sequence;
  return {
    logLikelihood: -nll.slice(context.length - 1).reduce((a, b) => a + b, 0),
    reach: reachOf(
      CONFIG,
      pruner ?? createDense(),
      { keep, kvKeep },
      context.length - 1,
      fed.length,
    ),
    usage: sequence.usage(),
  };
}

for (const [name, create] of Object.entries(METHODS)) {
  Deno.test(`ItemScorer: ${name}: branches of a context say what whole sequences say, whatever was scored before`, () => {
    const pruner = create();
    using scorer = new ItemScorer(truth, () => pruner);
    let filtered = 0;
    const all = ITEMS.map((item) => encodeItem(tokenizer, item)),
      scores = all.map((encoded) => scorer.score(encoded));
    for (const [i, item] of ITEMS.entries()) {
      const encoded = all[i]!, score = scores[i]!;
      const whole = encoded.requests.map(({ context, continuation }) =>
        scoreWhole(pruner, context, continuation, item.stream)
      );
      whole.forEach(({ logLikelihood }, i) =>
        assertAlmostEquals(score.logLikelihoods[i]!, logLikelihood, 1e-4)
      );
      for (const key of ["positions", "missedKeys", "ownFiltered", "ownSkips"] as const) {
        assertEquals(
          score.reach[key],
          whole.reduce((sum, { reach }) => sum + reach[key], 0),
          `${item.id} ${key}`,
        );
      }
      for (const key of ["queriesSkipped", "pairsAvoided", "kvBytesHeld", "totalFlopsDense"] as const) {
        assertEquals(
          score.usage[key],
          whole.reduce((sum, { usage }) => sum + usage[key], 0),
          `${item.id} ${key}`,
        );
      }
      assertEquals(
        score.skips.tokens,
        encoded.requests.reduce((n, r) => n + r.context.length + r.continuation.length - 1, 0),
      );
      filtered += score.reach.missedKeys + score.reach.ownSkips;
    }
    assertEquals(filtered > 0, name !== "dense");
    // Equal to the last bit: in reverse order, and scored separately.
    const again = all.toReversed().map((encoded) => scorer.score(encoded));
    assertEquals(again.reverse(), scores);
    using fresh = new ItemScorer(truth, () => pruner);
    assertEquals(fresh.score(all[3]!), scores[3]);
  });
}

Deno.test("ItemScorer tells greedy continuations", () => {
  using scorer = new ItemScorer(truth);
  const [context] = [tokenizer.encode(LONG)];
  const row = f32Data(truth.logits(truth.start().feed(context!))).subarray(-CONFIG.vocabSize);
  const best = row.indexOf(Math.max(...row)), other = (best + 1) % CONFIG.vocabSize;
  const requests = [best, other].map((id) => ({ context: context!, continuation: Int32Array.of(id) }));
  const { greedy } = scorer.score({ item: ITEMS[1]!, requests, shared: 0 });
  assertEquals(greedy, [true, false]);
});

Deno.test("ItemScorer gives a non-causal method each choice as a whole, and the context's length to all", () => {
  const oracle = createPruner("oracle", CONFIG, { pruneRatio: 0.5, warmup: 8 }), asked: number[] = [];
  using scorer = new ItemScorer(truth, (tokens) => (asked.push(tokens), oracle));
  const encoded = encodeItem(tokenizer, ITEMS[2]!), score = scorer.score(encoded);
  encoded.requests.forEach(({ context, continuation }, i) => {
    const { logLikelihood } = scoreWhole(oracle, context, continuation, 7);
    assertAlmostEquals(score.logLikelihoods[i]!, logLikelihood, 1e-4);
  });
  assertEquals(asked, [encoded.requests[0]!.context.length]);
});

Deno.test("ItemScorer goes on greedily where texts are sought, as its method filters, and counts those positions too", () => {
  const sought = { answers: ["7,", "x"], maxTokens: 5 };
  const decode = (ids: ArrayLike<number>) => Array.from(ids, (id) => `${id},`).join("");
  const pruner = filtering({ pruneRatio: 0.5, warmup: 4, recent: 0 });
  const encoded = encodeItem({ ...tokenizer, decode, endIds: new Set<number>() }, { ...ITEMS[0]!, sought });
  const plain = encodeItem(tokenizer, ITEMS[0]!), { context } = encoded.requests[0]!;
  for (const own of [undefined, pruner]) {
    using scorer = new ItemScorer(truth, () => own);
    const found = scorer.score(encoded), before = scorer.score(plain), ids: number[] = [];
    const sequence = truth.start(own, { chunk: ITEMS[0]!.stream });
    let hidden = sequence.feed(context);
    while (ids.length < sought.maxTokens) {
      const [rows, width] = hidden.shape as [number, number];
      const last = hostTensor("f32", [1, width], f32Data(hidden).slice((rows - 1) * width));
      const logits = f32Data(truth.logits(last));
      ids.push(logits.indexOf(Math.max(...logits)));
      if (ids.length < sought.maxTokens) hidden = sequence.feed(Int32Array.of(ids.at(-1)!));
    }
    assertEquals([found.generated, found.logLikelihoods], [decode(ids), before.logLikelihoods]);
    assertEquals(found.reach.positions, before.reach.positions + sought.maxTokens);
    assertEquals(found.skips.tokens, before.skips.tokens + context.length + sought.maxTokens - 1);
    assertEquals(
      FOUND.of({ ...ITEMS[0]!, sought: { ...sought, answers: [`${ids[2]}`, "X"] } }, found),
      0.5,
    );
    // An id that ends the text is no part of it.
    const ends = { ...encoded, endIds: new Set([ids[1]!]) };
    assertEquals(scorer.score(ends).generated, decode(ids.slice(0, ids.indexOf(ids[1]!))));
  }
  const oracle = createPruner("oracle", CONFIG, { pruneRatio: 0.5, warmup: 8 });
  using ahead = new ItemScorer(truth, () => oracle);
  assertThrows(
    () => ahead.score(encoded),
    RangeError,
    "asks for a text, which a non-causal method cannot make",
  );
});

Deno.test("ItemScorer gives every sequence back, and refuses a model whose losses are no numbers", () => {
  const open = new Set<object>();
  let started = 0;
  const watch = (sequence: BranchingSequence): BranchingSequence => {
    const own = {
      feed: (ids: Int32Array<ArrayBuffer>) => sequence.feed(ids),
      feedResidual: () => assert(false) as never,
      fork: () => watch(sequence.fork()),
      free: () => assert(open.delete(own), "freed twice"),
      usage: () => sequence.usage(),
      get keep() {
        return sequence.keep;
      },
    };
    started++;
    open.add(own);
    return own;
  };
  const model: BranchingModel = {
    ...{ config: CONFIG, backend: truth.backend },
    start: (pruner, options) => watch(truth.start(pruner, options)),
    residualAt: () => assert(false) as never,
    logits: (hidden) => truth.logits(hidden),
  };
  const scorer = new ItemScorer(model);
  for (const item of ITEMS) scorer.score(encodeItem(tokenizer, item));
  assertEquals([open.size, started > 10], [1, true]); // the shared start
  scorer[Symbol.dispose]();
  assertEquals(open.size, 0);
  const broken = (hidden: Tensor) =>
    hostTensor("f32", [hidden.shape[0]!, 131], new Float32Array(hidden.shape[0]! * 131).fill(NaN));
  const wrong = new ItemScorer({ ...model, logits: broken });
  assertThrows(
    () => wrong.score(encodeItem(tokenizer, ITEMS[1]!)),
    RangeError,
    'Cannot score "x.jsonl", line 1: found a log-likelihood of NaN',
  );
});
