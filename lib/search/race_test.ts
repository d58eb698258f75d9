import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { normals } from "../stats/testing.ts";
import { evidenceAgainstZero, type OtherTrial, RACES } from "./race.ts";
import { RandomStream } from "./random_stream.ts";

Deno.test("evidenceAgainstZero() is the ratio of likelihoods that the formula says, whatever the unit", () => {
  // n = 3, S = 6, Q = 14, 1 + 3 * 4 = 13: 13^(-1/2) * (14 / (14 - 36 * 4 / 13))^(3/2).
  assertAlmostEquals(evidenceAgainstZero([1, 2, 3]), 13 ** -0.5 * (14 / (14 - 144 / 13)) ** 1.5, 1e-12);
  assertAlmostEquals(evidenceAgainstZero([-2e-9, -4e-9, -6e-9]), evidenceAgainstZero([1, 2, 3]), 1e-9);
  assertEquals([evidenceAgainstZero([]), evidenceAgainstZero([0, 0])], [1, 1]);
  assert(evidenceAgainstZero([1, -1, 1, -1]) < 1 && evidenceAgainstZero([1, 2, 1, 2, 1, 2, 1]) > 100);
});

Deno.test("evidence reaches 20 in at most a twentieth of series without a difference, and in most with one", () => {
  const reaches = (shift: number) => {
    let count = 0;
    for (let seed = 0; seed < 400; seed++) {
      const series = normals(60, seed + 1).map((x) => x + shift);
      count += Number(series.some((_, n) => evidenceAgainstZero([...series.subarray(0, n + 1)]) >= 20));
    }
    return count / 400;
  };
  const wrong = reaches(0), right = reaches(0.8);
  assert(wrong > 0 && wrong <= 0.05 && right > 0.95, `${wrong} ${right}`);
});

Deno.test("a sequential race stops what is behind the best finished other, and nothing else", () => {
  const shouldStop = RACES.sequential;
  const best: OtherTrial = { losses: [1, 2, 1, 2, 1, 2, 1, 2], isFinished: true };
  const worse: OtherTrial = { losses: best.losses.map((x) => x + 3), isFinished: true };
  const behind = [1.9, 3.1, 2, 2.9, 2.1, 3];
  assertEquals(shouldStop(behind, [worse, best], 8), "1.00 behind the best on the same chunks");
  assertEquals(shouldStop(behind.slice(0, 2), [best], 8), null);
  assertEquals(shouldStop(behind.map((x) => x - 2), [worse, best], 8), null); // ahead
  assertEquals(shouldStop(behind, [{ ...best, isFinished: false }], 8), null);
  assertEquals(shouldStop(behind, [], 8), null);
  assertEquals(shouldStop(best.losses.slice(0, 5), [best], 8), null);
});

Deno.test("successive halving looks at 1/27, 1/9 and 1/3 of the chunks, at the best third so far", () => {
  const shouldStop = RACES.halving;
  const others = [1, 2, 3, 4, 5].map((loss, i): OtherTrial => ({
    losses: new Array(i === 0 ? 2 : 27).fill(loss),
    isFinished: i > 0,
  }));
  const at = (loss: number, read: number) => shouldStop(new Array(read).fill(loss), others, 27);
  assertEquals([at(9, 2), at(9, 4), at(9, 8)], [null, null, null]);
  assertEquals(at(1.5, 1), null); // second of six
  assertEquals(at(2.5, 1), "place 3 of 6 after 1 chunks");
  assertEquals(at(1.5, 3), null); // the first one has not come here
  assertEquals(at(2.5, 9), "place 2 of 5 after 9 chunks");
  assertEquals(shouldStop([9], [], 27), null);
});

/** A race of recorded losses by workers that read a chunk in turn. @returns The winner, and how many chunks were read. */
function race(losses: readonly (readonly number[])[], workers: number, seed: number) {
  const random = new RandomStream(seed, 0), order = random.shuffle(losses[0]!.length);
  const waiting = random.shuffle(losses.length), finished = new Map<number, OtherTrial>();
  const desks: { trial: number; row: number[]; done: number }[] = [];
  let read = 0;
  while (waiting.length + desks.length > 0) {
    while (desks.length < workers && waiting.length > 0) {
      const trial = waiting.shift()!;
      desks.push({ trial, row: order.map((chunk) => losses[trial]![chunk]!), done: 0 });
    }
    for (const desk of [...desks]) {
      const { trial, row } = desk, isFinished = ++desk.done === order.length;
      read++;
      const own = row.slice(0, desk.done), others = [...finished.values()];
      if (isFinished) finished.set(trial, { losses: row, isFinished });
      if (isFinished || RACES.sequential(own, others, order.length) !== null) {
        desks.splice(desks.indexOf(desk), 1);
      }
    }
  }
  const winner = [...finished].reduce((a, b) => mean(b[1].losses) < mean(a[1].losses) ? b : a);
  return { winner: winner[0], read };
}
const mean = (row: readonly number[]) => row.reduce((a, b) => a + b, 0) / row.length;

Deno.test("on recorded losses a sequential race of 1, 2 or 4 workers reads at most half of the chunks, and its winner is the best, for 20 seeds", () => {
  // Trials of docs/spaces/tiny.json, a row each: see `protocol` in the file.
  const { losses } = JSON.parse(
    Deno.readTextFileSync(new URL("testdata/race_losses.json", import.meta.url)),
  ) as { losses: number[][] };
  const best = losses.indexOf(losses.reduce((a, b) => mean(b) < mean(a) ? b : a));
  for (const workers of [1, 2, 4]) {
    let sum = 0;
    for (let seed = 0; seed < 20; seed++) {
      const { winner, read } = race(losses, workers, seed);
      assertEquals(winner, best, `${workers} workers, seed ${seed}`);
      sum += read;
    }
    const share = sum / (20 * losses.length * losses[0]!.length);
    assert(share <= 0.5, `${workers} workers: ${share} of the chunks were read`);
  }
});
