import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { reachBudget } from "./budget.ts";

const CURVES: { readonly [name: string]: (ratio: number) => number } = {
  line: (ratio) => 1 - 0.8 * ratio,
  steep: (ratio) => (1 - ratio) ** 3,
  late: (ratio) => 1 - ratio ** 6,
  steps: (ratio) => 1 - Math.floor(ratio * 250) / 250 * 0.9,
};

for (const [name, curve] of Object.entries(CURVES)) {
  Deno.test(`reachBudget() comes within half a point of what it is to retain, along a curve: ${name}`, async () => {
    for (const target of [0.9, 0.5, 0.3]) {
      let runs = 0;
      const { ratio, retained, reached } = await reachBudget(
        target,
        (ratio) => (runs++, Promise.resolve(curve(ratio))),
      );
      assert(reached && runs <= 12, `${target}: ${runs} runs`);
      assertEquals(retained, curve(ratio));
      assertAlmostEquals(retained, target, 0.005);
    }
  });
}

Deno.test("reachBudget() tells the least where a budget is out of reach", async () => {
  const floor = await reachBudget(0.1, (ratio) => Promise.resolve(1 - 0.7 * ratio));
  assertEquals([floor.reached, floor.ratio], [false, 0.99]);
  assertAlmostEquals(floor.least, 1 - 0.7 * 0.99, 1e-12);
  // A method that cannot have high ratios.
  const upTo = (ratio: number) => Promise.resolve(ratio > 0.4 ? undefined : 1 - ratio);
  const capped = await reachBudget(0.3, upTo);
  assertEquals(capped.reached, false);
  assertAlmostEquals(capped.least, 0.6, 0.002);
  assertEquals((await reachBudget(0.65, upTo)).reached, true);
  const never = await reachBudget(0.3, () => Promise.resolve(undefined));
  assertEquals([never.reached, never.retained, never.least], [false, NaN, 1]);
  // One jump over the target.
  const jump = await reachBudget(0.5, (ratio) => Promise.resolve(ratio < 0.6 ? 0.7 : 0.2));
  assertEquals([jump.reached, jump.least], [false, 0.2]);
  await assertRejects(() => reachBudget(1.2, () => Promise.resolve(1)), RangeError, "target");
});

Deno.test("reachBudget() takes a few runs from a ratio that is asked for, and says where nothing comes near", async () => {
  const tries: number[] = [], asked = { first: 0.5, most: 6 };
  // Pairs fall as a square if the keys of skipped queries are evicted too.
  const square = (ratio: number) => (tries.push(ratio), Promise.resolve((1 - ratio) ** 2));
  const { ratio, reached } = await reachBudget(0.36, square, asked);
  assert(reached && Math.abs((1 - ratio) ** 2 - 0.36) <= 0.005, `${ratio}`);
  assertEquals([tries[0], tries.length <= 4], [0.5, true]);
  // A method that already has the budget runs once, at the requested ratio.
  tries.length = 0;
  assertEquals([(await reachBudget(0.254, square, asked)).ratio, tries], [0.5, [0.5]]);
  const stuck = (ratio: number) => Promise.resolve(0.8 - 0.01 * ratio);
  assertEquals((await reachBudget(0.36, stuck, asked)).reached, false);
  assertEquals((await reachBudget(0.36, () => Promise.resolve(0.5), asked)).reached, false);
  const upTo = (ratio: number) => Promise.resolve(ratio > 0.7 ? undefined : 1 - 0.5 * ratio);
  assertEquals((await reachBudget(0.6, upTo, asked)).reached, false);
});
