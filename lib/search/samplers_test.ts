/** Samplers, compared with scipy and Optuna (`testdata/make_golden.py`). */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { normalCdf } from "../math/normal.ts";
import { normalMass } from "../stats/normal.ts";
import { IN_SLOW_TIER, unless } from "../testing.ts";
import { isActive, type Observation, type SearchSpace } from "./axis.ts";
import { dominanceRanks, hypervolume } from "./hypervolume.ts";
import { Mixture } from "./parzen.ts";
import { pedAnova } from "./ped_anova.ts";
import { RandomStream } from "./random_stream.ts";
import { SAMPLERS } from "./sampler.ts";
import { SobolPoints } from "./sobol.ts";
import { FUNCTIONS, median, medianTest, search } from "./testing.ts";
import { ageWeights, chooseGood } from "./tpe.ts";

const golden = JSON.parse(Deno.readTextFileSync(new URL("testdata/golden.json", import.meta.url)));

Deno.test("normalCdf() and normalMass() give scipy's, in the tails too", () => {
  for (const [x, share] of golden.normal) {
    assertAlmostEquals(normalCdf(x) / share, 1, 1e-10);
    assertAlmostEquals(normalMass(-x, Infinity) / share, 1, 1e-10);
  }
});

Deno.test("Sobol points are scipy's; scrambled, they are others of the same kind, uniform over seeds", () => {
  const plain = new SobolPoints(64);
  assertEquals(Array.from({ length: 8 }, (_, i) => plain.at(i)), golden.sobol);
  assertEquals([1, 2, 3].map((i) => new SobolPoints(2).at(i)), [[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]);
  const five = new SobolPoints(5);
  assertEquals([1000, 1001, 1002].map((i) => five.at(i)), golden.sobolLater);
  const size = 64, dimensions = 8;
  const firsts = new Set<number>(), sums = new Float64Array(dimensions);
  for (let seed = 0; seed < 40; seed++) {
    const points = new SobolPoints(dimensions, seed);
    const drawn = Array.from({ length: size }, (_, i) => points.at(i));
    for (let d = 0; d < dimensions; d++) {
      // One in each slice of an axis, and in each box of the first two axes.
      assertEquals(new Set(drawn.map((point) => Math.floor(point[d]! * size))).size, size);
      sums[d]! += drawn[0]![d]!;
    }
    const boxes = new Set(drawn.map(([x, y]) => `${Math.floor(x! * 8)} ${Math.floor(y! * 8)}`));
    assertEquals(boxes.size, size);
    firsts.add(drawn[0]![0]!);
  }
  assertEquals(firsts.size, 40);
  for (const sum of sums) assertAlmostEquals(sum / 40, 0.5, 0.15); // 3.3 standard errors
  assertThrows(() => new SobolPoints(65), RangeError, "expected at most 64");
});

Deno.test("hypervolume() is Optuna's, and refuses what lies beyond the reference", () => {
  for (const { costs, volume } of golden.volumes) {
    assertAlmostEquals(hypervolume(costs, costs[0].map(() => 1)), volume, 1e-9);
  }
  assertEquals(hypervolume([[0, 1], [1, 0]], [2, 2]), 3);
  assertEquals([[2], [2, 2], [2, 2, 2]].map((reference) => hypervolume([], reference)), [0, 0, 0]);
  assertEquals(dominanceRanks([[0, 1], [1, 0], [1, 1], [2, 2]]), [0, 0, 1, 2]);
  assertThrows(() => hypervolume([[1, 3]], [2, 2]), RangeError, "the hypervolume of [1,3]");
  assertEquals(dominanceRanks([[0, 1], [1, 0], [1, 1], [1, 1], [2, 2]], 1), [0, 0, 1, 1, 1]);
});

Deno.test("the estimator's densities are Optuna's, along axes of all kinds", () => {
  const number = (low: number, high: number, step = 0, log = false) => ({ name: "", low, high, step, log });
  const space: SearchSpace = [
    number(-1, 3),
    number(1e-4, 1, 0, true),
    number(0, 2, 0.25),
    number(2, 9, 1),
    number(1, 64, 1, true),
    { name: "", choices: ["a", "b", "c"] },
  ];
  for (const { even, seen, at, logPdf } of golden.parzen) {
    const mixture = Mixture.around(space, seen, even ? seen.map(() => 1) : ageWeights(seen.length));
    at.forEach((point: number[], i: number) => assertAlmostEquals(mixture.logPdf(point), logPdf[i], 1e-7));
    // Draws lie where the density is positive.
    const random = new RandomStream(1, 0);
    const drawn = Array.from({ length: 50 }, () => mixture.sample(random));
    assert(drawn.every((point) => Number.isFinite(mixture.logPdf(point))));
  }
});

Deno.test("good trials are those that Optuna takes, with objectives, stopped trials and constraints", () => {
  for (const { trials, below } of golden.splits) {
    const observations = trials.map(({ stopped, ...rest }: { stopped: boolean }) => ({
      point: {},
      state: stopped ? "stopped" : "finished",
      ...rest,
    }));
    for (const [count, good] of Object.entries(below)) {
      assertEquals(chooseGood(observations, Number(count)), good, `${count} of ${trials.length}`);
    }
  }
});

Deno.test("pedAnova() gives Optuna's importances, of a conditional axis too, and of two objectives", () => {
  for (const { name, trials, importances } of golden.importances) {
    const observations = trials.map((trial: object) => ({ state: "finished", violation: 0, ...trial }));
    const found = pedAnova(FUNCTIONS[name]!.space, observations);
    assertEquals(Object.keys(found), Object.keys(importances));
    for (const [axis, share] of Object.entries(found)) assertAlmostEquals(share, importances[axis], 1e-7);
    const stopped = { ...observations[0], state: "stopped", values: observations[0].values.map(() => -99) };
    assertEquals(pedAnova(FUNCTIONS[name]!.space, [...observations, stopped]), found);
  }
  assertEquals(pedAnova(FUNCTIONS.branin!.space, []), { x: 0.5, y: 0.5 });
});

for (const [name, tested] of Object.entries(FUNCTIONS)) {
  const title =
    `TPE comes as far as Optuna's on ${name}: medians of 20 seeds at 100 trials differ by no more than chance`;
  Deno.test({
    ...unless(["mixed", "front"].includes(name) && IN_SLOW_TIER, title),
    fn: () => {
      const found = (kind: "tpe" | "random") =>
        Array.from(
          { length: 20 },
          (_, seed) => search(tested, SAMPLERS[kind].create(tested.space, seed), 100),
        );
      const optuna: number[] = golden.race[name], tpe = found("tpe");
      const shown = `median ${median(tpe)}, of Optuna ${median(optuna)}`;
      assert(medianTest(tpe, optuna) > 0.01, shown);
      assert(medianTest(found("random"), optuna) <= 0.01, "random comes as far");
    },
  });
}

Deno.test("samplers follow from seed and trials; constraints, axes that are not there and trials at work count", () => {
  const { space, measure } = FUNCTIONS.mixed!;
  for (const [name, { create }] of Object.entries(SAMPLERS)) {
    if (name === "grid") continue;
    const trials: Observation[] = [];
    for (let i = 0; i < 24; i++) {
      const point = create(space, 7)(trials)!;
      assertEquals(create(space, 7)(trials), point);
      assertEquals("tau" in point, point.kind === "a", name);
      for (const axis of space) assertEquals(axis.name in point, isActive(axis, point));
      trials.push({ point, state: "finished", ...measure(point) });
    }
    const other = create(space, 8)(trials);
    assert(JSON.stringify(other) !== JSON.stringify(create(space, 7)(trials)), name);
  }
});

Deno.test("TPE keeps away from trials at work", () => {
  const { space, measure } = FUNCTIONS.branin!;
  const random = SAMPLERS.random.create(space, 3), trials: Observation[] = [];
  for (let i = 0; i < 20; i++) {
    const point = random(trials)!;
    trials.push({ point, state: "finished", ...measure(point) });
  }
  const best = trials.reduce((a, b) => b.values[0]! < a.values[0]! ? b : a);
  const near = (all: readonly Observation[]) =>
    Array.from({ length: 30 }, (_, seed) => SAMPLERS.tpe.create(space, seed)(all)!).filter((point) =>
      space.every(({ name }) => Math.abs(Number(point[name]) - Number(best.point[name])) < 2)
    ).length;
  const busy: Observation = { ...best, state: "running", values: [] };
  assert(near(trials) > 10);
  assertEquals(near([...trials, busy]), 0);
});

Deno.test("a grid has every combination once, without axes that are not there, and needs steps", () => {
  const space: SearchSpace = [
    { name: "kind", choices: ["a", "b"] },
    { name: "tau", low: 0.1, high: 0.3, step: 0.1, log: false, when: { kind: ["a"] } },
    { name: "n", low: 1, high: 2, step: 1, log: false },
  ];
  const grid = SAMPLERS.grid.create(space, 0);
  const points = Array.from({ length: 9 }, (_, length) => grid(new Array(length)));
  assertEquals(points.slice(0, 3), [{ kind: "a", tau: 0.1, n: 1 }, { kind: "a", tau: 0.1, n: 2 }, {
    kind: "a",
    tau: 0.2,
    n: 1,
  }]);
  assertEquals(points.slice(6), [{ kind: "b", n: 1 }, { kind: "b", n: 2 }, undefined]);
  assertEquals(points[4], { kind: "a", tau: 0.3, n: 1 });
  assertThrows(() => SAMPLERS.grid.create(FUNCTIONS.branin!.space, 0), RangeError, 'a grid of "x"');
  const many = Array.from({ length: 5 }, (_, i) => ({ ...space[2]!, name: `n${i}`, high: 10 }));
  assertThrows(() => SAMPLERS.grid.create(many as SearchSpace, 0), RangeError, "more than 10000 points");
});
