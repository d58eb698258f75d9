import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { resolveOptions, type TokenFilterOptions } from "../methods/bind/options.ts";
import { countFiltered, planLayers, wholeLayers, wholeParts } from "./schedule.ts";

const plan = (numLayers: number, options: TokenFilterOptions) =>
  planLayers(numLayers, resolveOptions(options));

Deno.test("countFiltered() is ceil(tail*L) without the errors of binary fractions", () => {
  assert(0.07 * 100 > 7 && 0.7 * 10 === 7); // the trap that the test is for
  assertEquals(countFiltered(0.7, 10), 7);
  assertEquals(countFiltered(0.07, 100), 7);
  assertEquals(countFiltered(0.75, 30), 23);
  assertEquals(countFiltered(1, 40), 40);
  assertEquals(countFiltered(0.001, 8), 1);
  assertEquals(countFiltered(Number.MIN_VALUE, 8), 1);
  for (let numLayers = 1; numLayers <= 128; numLayers++) {
    for (let count = 1; count <= numLayers; count++) {
      assertEquals(countFiltered(count / numLayers, numLayers), count);
    }
    for (let percent = 1; percent <= 100; percent++) {
      assertEquals(countFiltered(percent / 100, numLayers), Math.ceil(percent * numLayers / 100));
    }
  }
});

Deno.test("planLayers() of uniform gives each filtered layer p*L/F", () => {
  assertEquals(
    plan(8, { pruneRatio: 0.375, tail: 0.5 }),
    [4, 5, 6, 7].map((layer) => ({ layer, skipRatio: 0.75 })),
  );
  assertEquals(plan(8, { pruneRatio: 0.75 }).map((l) => l.skipRatio), Array(6).fill(1));
  assertEquals(plan(4, { pruneRatio: 0 }).length, 3); // filtered, with nothing to skip
});

Deno.test("planLayers() of ramp rises about the same mean", () => {
  const layers = plan(10, { schedule: "ramp", pruneRatio: 0.3, tail: 0.5, slope: 0.5 });
  layers.forEach(({ layer, skipRatio }, i) => {
    assertEquals(layer, 5 + i);
    assertAlmostEquals(skipRatio, 0.6 * (1 + 0.5 * (i / 2 - 1)), 1e-15);
  });
  assertAlmostEquals(layers.reduce((sum, l) => sum + l.skipRatio, 0) / 10, 0.3, 1e-15);
  assertEquals(plan(4, { schedule: "ramp", pruneRatio: 0.2, tail: 0.25, slope: 1 }), [{
    layer: 3,
    skipRatio: 0.8,
  }]);
  assertEquals(plan(8, { schedule: "ramp", pruneRatio: 0.3, slope: 1 })[0]!.skipRatio, 0);
});

Deno.test("planLayers() of explicit leaves out the layers with 0", () => {
  assertEquals(plan(4, { skipRatios: [0, 0.25, 0, 1], tail: 0.1, pruneRatio: 0.9 }), [
    { layer: 1, skipRatio: 0.25 },
    { layer: 3, skipRatio: 1 },
  ]);
  assertEquals(plan(2, { skipRatios: [0, 0] }), []);
  assertThrows(
    () => plan(3, { skipRatios: [0, 1] }),
    RangeError,
    'Cannot use option "skipRatios": found 2 numbers, expected 3, one a layer',
  );
});

Deno.test("planLayers() refuses an unreachable schedule and says what fits", () => {
  const cases: [number, TokenFilterOptions, string][] = [
    [
      8,
      { pruneRatio: 0.9 },
      "Cannot plan a uniform schedule: layer 7 needs a skip ratio of 1.2, expected at most 1: use a tail of at least " +
      "1 or a pruneRatio of at most 0.75",
    ],
    [
      30,
      { pruneRatio: 0.5, tail: 0.4 },
      "layer 29 needs a skip ratio of 1.25, expected at most 1: use a tail of at least 0.5 or a pruneRatio of at " +
      "most 0.4",
    ],
    [
      8,
      { schedule: "ramp", pruneRatio: 0.6, slope: 0.5 },
      "Cannot plan a ramp schedule: layer 7 needs a skip ratio of 1.2, expected at most 1: use a tail of at least " +
      "1 or a pruneRatio of at most 0.5",
    ],
    [
      8,
      { schedule: "ramp", pruneRatio: 0.9, tail: 1, slope: 1 },
      "expected at most 1: use a pruneRatio of at most 0.5",
    ],
  ];
  for (const [numLayers, options, message] of cases) {
    assertThrows(() => plan(numLayers, options), RangeError, message);
  }
});

Deno.test("planLayers() fits when its own advice is followed, for 300 plans", () => {
  let refused = 0;
  for (const numLayers of [1, 3, 8, 22, 30, 40]) {
    for (const tail of [0.1, 0.33, 0.5, 0.75, 1]) {
      for (const pruneRatio of [0.35, 0.6, 0.83, 0.97]) {
        for (
          const options of [{}, { schedule: "ramp", slope: 0.3 }, { schedule: "ramp", slope: 1 }] as const
        ) {
          const asked = { ...options, tail, pruneRatio };
          try {
            plan(numLayers, asked);
            continue;
          } catch (error) {
            const { message } = error as RangeError;
            refused += 1;
            const smallest = message.match(/tail of at least ([\d.]+)/)?.[1];
            const largest = message.match(/pruneRatio of at most ([\d.]+)/)![1];
            if (smallest !== undefined) {
              const fitted = plan(numLayers, { ...asked, tail: Number(smallest) }).length;
              assertThrows(
                () => plan(numLayers, { ...asked, tail: (fitted - 1) / numLayers || 1e-9 }),
                RangeError,
              );
            }
            plan(numLayers, { ...asked, pruneRatio: Number(largest) });
          }
        }
      }
    }
  }
  assert(refused > 100, `${refused} refused`);
});

Deno.test("planLayers() asks for no ratio under a fixed threshold", () => {
  const layers = plan(8, { threshold: "fixed", tail: 0.25, pruneRatio: 0.5 });
  assertEquals(layers, [{ layer: 6, skipRatio: 1 }, { layer: 7, skipRatio: 1 }]);
});

Deno.test("planLayers() never asks for more than all, whatever rounding does", () => {
  const rounded = plan(10, { pruneRatio: 0.7, tail: 0.7, schedule: "ramp", slope: 0 });
  assert(rounded.every(({ skipRatio }) => skipRatio === 1));
  for (let count = 1; count < 60; count++) {
    for (const { skipRatio } of plan(60, { pruneRatio: count / 60, tail: count / 60 })) {
      assert(skipRatio <= 1 && skipRatio > 1 - 1e-9);
    }
  }
});

Deno.test("wholeLayers() takes the smallest set with the asked fraction, and fewer where the ratio needs more layers", () => {
  const scores = [1, 50, 2, 30, 10, 7];
  const planned = resolveOptions({ side: "key", fusion: "key" });
  const options = { ...planned, whole: "auto", kvTail: 1 } as const;
  const found = (wholeFraction: number, kvRatio: number, threshold: "budget" | "fixed" = "budget") =>
    wholeLayers(6, { ...options, wholeFraction, kvRatio, threshold }, scores);
  assertEquals(found(0.5, 0.1), [1]);
  assertEquals(found(0.51, 0.1), [1, 3]);
  assertEquals(found(0.75, 0.1), [1, 3]);
  assertEquals(found(0.9, 0.1), [1, 3, 4]);
  assertEquals(found(1, 0.5), [1, 3, 4]);
  assertEquals(found(1, 0.8), [1]);
  assertEquals(found(1, 0.9), []);
  assertEquals(found(1, 0.9, "fixed"), [0, 1, 2, 3, 4, 5]);
  const plan = planLayers(6, { ...options, wholeFraction: 0.75, kvRatio: 0.5 }, "keys", scores);
  assertEquals(plan, [0, 2, 4, 5].map((layer) => ({ layer, skipRatio: 0.75 })));
  assertEquals(planLayers(6, { ...options, whole: [5, 0], kvRatio: 0.5 }, "keys").map(({ layer }) => layer), [
    1,
    2,
    3,
    4,
  ]);
});

Deno.test("planLayers() with whole heads gives the other heads what keeps the rows that are held", () => {
  const scores = [9, 0, 0, 0, 5, 4, 0, 0],
    base = resolveOptions({ side: "key", fusion: "key", kvRatio: 0.5 });
  const options = { ...base, whole: "heads", wholeFraction: 1 } as const,
    plan = planLayers(4, options, "keys", scores);
  assertEquals(wholeParts(4, options, scores), [0, 4, 5]);
  assertEquals(wholeLayers(4, options, scores), [2]);
  assertEquals(plan, [
    { layer: 0, skipRatio: 0.8, headParts: { whole: [0], others: [1] } },
    { layer: 1, skipRatio: 0.8 },
    { layer: 3, skipRatio: 0.8 },
  ]);
  assertEquals(wholeParts(4, { ...options, kvRatio: 0.8 }, scores), [0]);
  assertEquals(
    planLayers(4, { ...options, skipRatios: [0.5, 0, 0, 0], schedule: "explicit" }, "keys", scores),
    [
      { layer: 0, skipRatio: 0.5 },
    ],
  );
  assertThrows(
    () => planLayers(4, { ...options, kvRatio: 0.6, kvTail: 0.75 }, "keys", scores),
    RangeError,
    "layers whole at a kvRatio of 0.6",
  );
});
