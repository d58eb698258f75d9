import { assertEquals } from "@std/assert";
import type { MethodOptions } from "../../methods/bind/options.ts";
import { makeTrial } from "../../plot/testing.ts";
import { digestTrialOptions } from "./digest.ts";
import { findWinners, runControls } from "./winners.ts";

const LOSS = { objectives: ["loss"], limits: {} } as const;

/** A trial that skips what it was asked to, and spends less in attention the more it skips. */
function trial(fusion: string, pruneRatio: number, loss: number, achieved = pruneRatio) {
  const made = makeTrial({ fusion, pruneRatio } as MethodOptions, achieved, 40 * Math.exp(loss));
  return {
    ...made,
    trial: `${fusion} ${pruneRatio}`,
    nllDelta: loss,
    attentionFlopsDense: 1000,
    attentionFlopsAvoided: 1000 * pruneRatio,
  };
}

const namesOf = (trials: readonly { readonly trial: string }[]) => trials.map(({ trial }) => trial);

Deno.test("findWinners() takes the best online trial of each ratio that several trials share", () => {
  const trials = [
    ...[trial("key", 0.3, 0.3), trial("mean", 0.3, 0.2), trial("random", 0.3, 0.1), trial("oracle", 0.3, 0)],
    ...[trial("key", 0.5, 0.5), trial("mean", 0.5, 0.6), trial("variance", 0.5, 0.4, 0.6)],
  ];
  assertEquals(namesOf(findWinners(trials, LOSS)), ["mean 0.3", "key 0.5"]);
  const limited = { ...LOSS, limits: { attentionFlops: 0.6 } };
  assertEquals(namesOf(findWinners(trials, limited)), ["key 0.5"]);
});

Deno.test("findWinners() takes some of the front, its ends too, where ratios are drawn from a range", () => {
  const front = Array.from({ length: 17 }, (_, i) => trial("key", (20 + 2 * i) / 100, i / 10));
  const behind = [trial("mean", 0.21, 5), trial("mean", 0.41, 5)];
  const found = namesOf(findWinners([...behind, ...front], LOSS));
  assertEquals(found, ["key 0.2", "key 0.28", "key 0.36", "key 0.44", "key 0.52"]);
  assertEquals(namesOf(findWinners(front.slice(0, 3), LOSS)), ["key 0.2", "key 0.22", "key 0.24"]);
  assertEquals(findWinners([], LOSS), []);
});

Deno.test("runControls() runs random decisions with a winner's options once, and takes those that ran", async () => {
  const winners = [trial("key", 0.3, 0.3), trial("mean", 0.3, 0.2), trial("key", 0.5, 0.5)];
  const ran: string[] = [];
  const run = (known: typeof winners) =>
    runControls(winners, known, ({ method, digest }) => {
      ran.push(`${method.fusion} ${method.pruneRatio}`);
      return Promise.resolve({ ...trial(method.fusion, method.pruneRatio, 1), trial: digest });
    });
  const found = await run(winners);
  assertEquals(ran, ["random 0.3", "random 0.5"]);
  assertEquals(found.map(({ trial, control }) => [trial, control!.pruneRatio]), [
    ["key 0.3", 0.3],
    ["mean 0.3", 0.3],
    ["key 0.5", 0.5],
  ]);
  ran.length = 0;
  await run([...winners, ...found.map(({ control }) => control as typeof winners[number])]);
  assertEquals([ran, digestTrialOptions(found[0]!.control as never).length], [[], 12]);
});
