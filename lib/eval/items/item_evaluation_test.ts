/** Tests the evaluation of items against the scores of each item scored separately. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { filtering, truth } from "../../model/small_testing.ts";
import { encodeItem } from "./encoded_item.ts";
import { type Item, requestOf } from "./item.ts";
import { ACC, ACC_NORM, FOUND, GREEDY_DISTANCES, ITEM_PERPLEXITY } from "./item_metrics.ts";
import { ItemScorer } from "./item_scorer.ts";
import { defineItemTask } from "./item_task.ts";
import type { ChunkRecord, Evaluation, Task, TaskData } from "../task.ts";

const tokenizer = {
  bosId: 1,
  endIds: new Set<number>(),
  encode: (text: string) => Int32Array.from(text, (letter) => letter.codePointAt(0)! % 130),
  decode: (ids: Int32Array) => String.fromCharCode(...ids),
};
const LONG = "The rain fell on the old town, and nobody walked.";
const ITEMS = ["He ran", "Who is it", "It was"].map((end, i): Item => ({
  ...{ id: `${i}`, place: `line ${i}`, gold: i % 2, stream: i },
  requests: [requestOf(`${LONG} ${end}`, "yes it is"), requestOf(`${LONG} ${end}`, "no")],
}));
const choices = defineItemTask({
  ...{ name: "choices", help: "choices", protocol: "choices", file: "choices.jsonl" },
  metrics: [ACC, ACC_NORM, ITEM_PERPLEXITY],
  read: () => ITEMS,
});
const encode = (items: readonly Item[]) => items.map((item) => encodeItem(tokenizer as never, item));
const open = (task: Task, items = ITEMS): Evaluation =>
  task.open(truth, { items: encode(items) } as unknown as TaskData);
type Numbers = { readonly [name: string]: number };

Deno.test("ItemEvaluation says of a method what its scores of each item say", async () => {
  const pruner = filtering({ fusion: "random", pruneRatio: 0.5, warmup: 8, recent: 2 }), all = encode(ITEMS);
  using own = new ItemScorer(truth, () => pruner);
  using plain = new ItemScorer(truth);
  const scores = all.map((item) => own.score(item)), denseScores = all.map((item) => plain.score(item));
  const mean = (of: (i: number) => number) => ITEMS.reduce((sum, _, i) => sum + of(i), 0) / ITEMS.length;
  const evaluation = open(choices), losses: [number, number][] = [];
  const dense = await evaluation.dense() as unknown as Numbers;
  const result = await evaluation.run(pruner, {
    onLosses: (unit, [loss], [denseLoss], others) => {
      losses.push([loss!, denseLoss!]);
      assertEquals(others.acc_norm![0], ACC_NORM.of(ITEMS[unit]!, scores[unit]!));
    },
  });
  const found = result as unknown as Numbers;
  assertAlmostEquals(dense.acc!, mean((i) => ACC.of(ITEMS[i]!, denseScores[i]!)), 1e-12);
  assertAlmostEquals(found.acc!, mean((i) => ACC.of(ITEMS[i]!, scores[i]!)), 1e-12);
  assertAlmostEquals(
    found.perplexity!,
    Math.exp(mean((i) => ITEM_PERPLEXITY.of(ITEMS[i]!, scores[i]!))),
    1e-9,
  );
  assertEquals([dense.chance, dense.scoredTokens, found.denseAcc], [0.5, 3, dense.acc]);
  assertAlmostEquals(found.errorDelta!, dense.acc! - found.acc!, 1e-12);
  assertEquals(
    losses,
    scores.map((own, i) => [
      1 - ACC.of(ITEMS[i]!, own),
      1 - ACC.of(ITEMS[i]!, denseScores[i]!),
    ]),
  );
  assertEquals(result.parametersDense, truth.start().usage().parametersDense);
  assertAlmostEquals(
    found.missedKeys!,
    mean((i) => scores[i]!.reach.missedKeys / scores[i]!.reach.positions),
    1e-12,
  );
  assert(found.missedKeys! > 0 && result.achievedRatio! > 0.3);
});

Deno.test("ItemEvaluation takes a method for each length of context, and finished items as they were", async () => {
  const asked: number[] = [], pruner = filtering({ fusion: "key", pruneRatio: 0.4, warmup: 4 });
  const records: ChunkRecord[] = [], evaluation = open(choices);
  const filter = (tokens: number) => (asked.push(tokens), pruner);
  const whole = await evaluation.run(filter, { onRecord: (record) => records.push(record) });
  // The last call is for the largest item and sets the whole layers of the record; a resumed run makes it too.
  assertEquals(asked.slice(0, -1), encode(ITEMS).map(({ requests }) => requests[0]!.context.length));
  const finished = new Map(records.map((record) => [record.chunk, JSON.parse(JSON.stringify(record))]));
  const again = await open(choices).run((tokens) => {
    assertEquals(tokens, asked.at(-1), "asked again");
    return pruner;
  }, { finished });
  const lasting = ({ timeMs: _, denseTimeMs: __, ...own }: typeof whole) => own;
  assertEquals(lasting(again), lasting(whole));
});

Deno.test("ItemEvaluation measures how far a made text is from the full model's", async () => {
  const sought = { answers: ["a", "b"], maxTokens: 4 };
  const task = defineItemTask({
    ...{ name: "sought", help: "sought", protocol: "sought", distances: GREEDY_DISTANCES },
    metrics: [FOUND, ITEM_PERPLEXITY],
    make: () => ITEMS,
  });
  const items = ITEMS.map((item) => ({ ...item, sought })), evaluation = open(task, items);
  const same = await evaluation.run(filtering({ pruneRatio: 0, warmup: 4 })) as unknown as Numbers;
  assertEquals([same.tokenMatch, same.divergence], [1, 4]);
  const other = await evaluation.run(
    filtering({ pruneRatio: 0.8, warmup: 4, recent: 0 }),
  ) as unknown as Numbers;
  assert(other.tokenMatch! < 1 && other.divergence! < 4);
  const dense = await evaluation.dense() as unknown as Numbers;
  assertEquals([dense.tokenMatch, dense.chance, typeof dense.found], [undefined, undefined, "number"]);
});

Deno.test("ItemEvaluation refuses no items, and stops between two", async () => {
  assertThrows(() => open(choices, []), RangeError, "Cannot evaluate items: found none");
  const stop = new AbortController(), onChunk = () => stop.abort(new Error("enough"));
  await assertRejects(() => open(choices).dense({ signal: stop.signal, onChunk }), Error, "enough");
});
