import { assertEquals, assertObjectMatch, assertThrows } from "@std/assert";
import { FUSION_NAMES, KEY_RULE_NAMES } from "../list.ts";
import { OPTION_NAMES, OPTIONS } from "./option_table.ts";
import { type MethodOptions, resolveOptions } from "./options.ts";

Deno.test("resolveOptions() fills in the documented defaults", () => {
  assertObjectMatch(resolveOptions(), {
    fusion: "variance",
    invert: false,
    tau: 1,
    lambda: 0,
    eps: 1e-6,
    alpha: 0.5,
    anchor: "ema",
    gamma: 0.9,
    absorb: "all",
    pruneRatio: 0.5,
    tail: 0.75,
    schedule: "uniform",
    slope: 0.5,
    skipRatios: undefined,
    warmup: 32,
    threshold: "budget",
    window: 256,
    theta: 0,
    eta: 0.1,
    keyState: "post-rope",
    recent: 16,
    kvFusion: "same",
    kvRatio: 0.5,
    kvTail: 1,
    block: 32,
    ridge: 1,
    projections: 16,
    features: ["similarity", "norm", "projection"],
    seed: 0n,
  });
  assertEquals(resolveOptions({ tau: undefined, seed: 7 }), { ...resolveOptions(), seed: 7n });
});

Deno.test("resolveOptions() starts from a preset, and lets options beside it win", () => {
  assertEquals(resolveOptions({ preset: "paper" }), { ...resolveOptions(), recent: 0 });
  assertEquals(resolveOptions({ preset: "paper", recent: 4, fusion: "key" }).recent, 4);
});

Deno.test("resolveOptions() fills the key side in: side and cacheSkipped are short for its options", () => {
  const sides = (options: MethodOptions) => {
    const { fusion, pruneRatio, tail, kvFusion, kvRatio, kvTail } = resolveOptions(options);
    return [fusion, pruneRatio, tail, kvFusion, kvRatio, kvTail];
  };
  const common = ["variance", 0.5, 0.75] as const;
  assertEquals(sides({}), [...common, "same", 0.5, 1]);
  for (const options of [{ side: "query" }, { cacheSkipped: true }, { kvFusion: "none" }] as const) {
    assertEquals(sides(options), [...common, "none", 0.5, 1]);
    assertEquals(sides({ ...options, kvFusion: "none" }), sides(options));
  }
  assertEquals(sides({ side: "both", cacheSkipped: false }), sides({}));
  assertEquals(sides({ side: "key" }), ["variance", 0, 0.75, "variance", 0.5, 1]);
  const key = { side: "key", fusion: "mean", pruneRatio: 0.3, tail: 0.5 } as const;
  assertEquals(sides(key), ["mean", 0, 0.5, "mean", 0.3, 0.5]);
  assertEquals(sides({ ...key, kvFusion: "knorm", kvRatio: 0.7, kvTail: 0.25 }), [
    ...["mean", 0, 0.5],
    ...["knorm", 0.7, 0.25],
  ]);
  assertEquals(sides({ kvFusion: "random", pruneRatio: 0.2, tail: 1 }), [
    ...["variance", 0.2, 1],
    ...["random", 0.2, 1],
  ]);
  const { recent, warmup, kvFusion, kvRatio, kvTail, pruneRatio } = resolveOptions({ preset: "keys" });
  assertEquals([recent, warmup, kvFusion, kvRatio, kvTail, pruneRatio], [32, 64, "variance", 0.5, 1, 0]);
  assertEquals(resolveOptions({ preset: "keys", kvRatio: 0.75, fusion: "mean" }).kvFusion, "mean");
  // A rule of only keys may be named by either option there.
  for (const rule of ["keydiff", "cur", "knorm", "snapkv"] as const) {
    const named = { fusion: rule as "mean" };
    assertEquals(resolveOptions({ side: "key", ...named }), resolveOptions({ side: "key", kvFusion: rule }));
    assertEquals(
      resolveOptions({ preset: "keys", ...named }),
      resolveOptions({ preset: "keys", kvFusion: rule }),
    );
  }
});

Deno.test("resolveOptions() refuses sides that contradict each other, and what a rule of keys does not define", () => {
  const keyRules = KEY_RULE_NAMES.join(", ");
  const cases: [MethodOptions, string][] = [
    [{ side: "query", kvFusion: "key" }, 'found "key", expected none since the side is query'],
    [{ side: "query", kvFusion: "same" }, 'found "same", expected none since'],
    [{ cacheSkipped: true, kvFusion: "key" }, 'found "key", expected none since skipped tokens are cached'],
    [{ side: "key", kvFusion: "none" }, `found "none", expected one of ${keyRules} since the side is key`],
    [
      { preset: "keys", cacheSkipped: true },
      'Cannot use option "cacheSkipped": found true, expected false since the side is key',
    ],
    [{ side: "key", fusion: "learned" }, 'Cannot use option "kvFusion": found "learned", expected one of'],
    [{ side: "key", fusion: "oracle" }, 'found "oracle", expected one of'],
    [
      { kvFusion: "oracle" as "key" },
      'Cannot use option "kvFusion": found "oracle", expected one of same, none,',
    ],
    [
      { side: "key", absorb: "kept" },
      'Cannot use option "absorb": found "kept", expected all since the rule of keys and values is "variance"',
    ],
    [
      { kvFusion: "received", threshold: "topk" },
      'Cannot use option "threshold": found "topk", expected budget or window or robbins-monro or fixed since',
    ],
    [
      { fusion: "keydiff" as "mean" },
      'Cannot use option "fusion": found "keydiff", expected one that skips queries, since this one is of keys',
    ],
    [
      { side: "key", fusion: "cur" as "mean", kvFusion: "knorm" },
      'found "cur", expected one that skips queries',
    ],
    [{ kvRatio: 1 }, 'Cannot use option "kvRatio": found 1, expected a number in [0, 1)'],
    [{ kvTail: 0 }, 'Cannot use option "kvTail": found 0, expected a number in (0, 1]'],
  ];
  for (const [options, message] of cases) {
    const error = assertThrows(() => resolveOptions(options), RangeError, message);
    assertEquals(error.message.includes("\n"), false);
  }
  resolveOptions({ kvFusion: "knorm", absorb: "kept" }); // looks at no similarity
  resolveOptions({ side: "key", threshold: "topk" });
  // Limits of a query rule do not apply where no query is filtered.
  resolveOptions({ side: "key", fusion: "learned", kvFusion: "key", warmup: 0 });
});

Deno.test("resolveOptions() brings the local features with their substitute, and refuses what does not go with it", () => {
  const features = (options: MethodOptions) => resolveOptions(options).features.join();
  assertEquals(features({ substitute: "local" }), "similarity,norm,projection,local");
  assertEquals(features({ substitute: "local", features: ["norm"] }), "norm");
  assertEquals(features({ substitute: "last" }), "similarity,norm,projection");
  const learned = { fusion: "learned", substitute: "local", recent: 4 } as const;
  const cases: [MethodOptions, string][] = [
    [
      { fusion: "learned", features: ["local"] },
      'option "substitute": found "none", expected local since the features',
    ],
    [
      { ...learned, keyState: "pre-rope" },
      'option "keyState": found "pre-rope", expected post-rope since the features',
    ],
    [
      { substitute: "local", recent: 0 },
      'option "recent": found 0, expected at least 1 since the substitute is local',
    ],
    [
      { substitute: "local", warmup: 3 },
      'option "warmup": found 3, expected at least 4 since there are 4 sinks',
    ],
    [
      { ...learned, warmup: 31 },
      'option "warmup": found 31, expected at least 32 since a local substitute of 4 sinks',
    ],
    [
      { ...learned, fusion: "random", schedule: "allocated", warmup: 31 },
      "found 31, expected at least 32 since a local",
    ],
    [
      { schedule: "allocated", warmup: 7 },
      'option "warmup": found 7, expected at least 8 since the schedule is allocated',
    ],
    [
      { fusion: "oracle", schedule: "allocated" },
      'option "schedule": found "allocated", expected another since the method',
    ],
    [
      { schedule: "allocated", threshold: "topk" },
      'option "threshold": found "topk", expected one that aims at a ratio',
    ],
    [
      { schedule: "allocated", threshold: "fixed" },
      'option "threshold": found "fixed", expected one that aims',
    ],
  ];
  for (const [options, message] of cases) assertThrows(() => resolveOptions(options), RangeError, message);
  resolveOptions({ fusion: "random", features: ["local"] }); // a rule without features
  resolveOptions({ ...learned, features: ["norm"], keyState: "pre-rope" });
  const { substitute, recent, warmup, schedule, tail, fusion, kvFusion, kvTail } = resolveOptions({
    preset: "local",
  });
  assertEquals([substitute, recent, warmup, schedule, tail, fusion, kvFusion, kvTail], [
    ...["local", 96, 128, "allocated", 1],
    ...["learned", "missed", 1],
  ]);
});

Deno.test("resolveOptions() reads skipRatios as an explicit schedule", () => {
  assertEquals(resolveOptions({ skipRatios: [0, 1] }).schedule, "explicit");
  assertEquals(resolveOptions({ skipRatios: [0, 1], schedule: "ramp" }).schedule, "ramp");
});

Deno.test("resolveOptions() takes the ends of every range", () => {
  const ends: MethodOptions[] = [
    { gamma: 0 },
    { tau: 0 },
    { tau: 64 },
    { lambda: 0 },
    { alpha: 0 },
    { alpha: 1 },
    { eps: 1 },
    { pruneRatio: 0 },
    { tail: 1 },
    { slope: 0 },
    { slope: 1 },
    { warmup: 0 },
    { window: 1 },
    { theta: -5 },
    { eta: 10 },
    { recent: 0 },
    { block: 1 },
    { projections: 0 },
    { projections: 256 },
    { seed: 18446744073709551615n },
    { features: ["query"] },
    { substitute: "local", sinks: 0, warmup: 0 },
    { substitute: "local", sinks: 32, recent: 1 },
    { fusion: "learned", substitute: "local", recent: 4, sinks: 4 },
    { schedule: "allocated", warmup: 8, threshold: "robbins-monro" },
    { schedule: "allocated", substitute: "local", recent: 3, sinks: 5 },
    { fusion: "learned", warmup: 8, threshold: "window" },
  ];
  for (const options of ends) resolveOptions(options);
});

Deno.test("resolveOptions() names option, value and range", () => {
  const cases: [unknown, typeof RangeError | typeof TypeError, string][] = [
    [{ gamma: 1 }, RangeError, 'Cannot use option "gamma": found 1, expected a number in [0, 1)'],
    [{ gamma: -0.1 }, RangeError, 'Cannot use option "gamma": found -0.1, expected a number in [0, 1)'],
    [{ gamma: "0.9" }, TypeError, 'Cannot use option "gamma": found "0.9", expected a number in [0, 1)'],
    [{ tau: NaN }, RangeError, 'Cannot use option "tau": found NaN, expected a number in [0, 64]'],
    [{ tau: 64.1 }, RangeError, 'Cannot use option "tau": found 64.1, expected a number in [0, 64]'],
    [{ eps: 0 }, RangeError, 'Cannot use option "eps": found 0, expected a number in (0, 1]'],
    [{ tail: 0 }, RangeError, 'Cannot use option "tail": found 0, expected a number in (0, 1]'],
    [{ pruneRatio: 1 }, RangeError, 'Cannot use option "pruneRatio": found 1, expected a number in [0, 1)'],
    [{ theta: Infinity }, RangeError, 'Cannot use option "theta": found Infinity, expected a finite number'],
    [{ ridge: 0 }, RangeError, 'Cannot use option "ridge": found 0, expected a number in (0, 1e12]'],
    [
      { warmup: 1.5 },
      RangeError,
      'Cannot use option "warmup": found 1.5, expected an integer from 0 to 1000000',
    ],
    [{ window: 0 }, RangeError, 'Cannot use option "window": found 0, expected an integer from 1 to 65536'],
    [
      { projections: 257 },
      RangeError,
      'Cannot use option "projections": found 257, expected an integer from 0 to 256',
    ],
    [{ seed: -1 }, RangeError, 'Cannot use option "seed": found -1, expected an integer in [0, 2^64)'],
    [{ seed: 2 ** 60 }, RangeError, "expected an integer in [0, 2^64)"],
    [{ seed: 1n << 64n }, RangeError, "expected an integer in [0, 2^64)"],
    [{ invert: 1 }, TypeError, 'Cannot use option "invert": found 1, expected true or false'],
    [
      { threshold: "topK" },
      RangeError,
      'Cannot use option "threshold": found "topK", expected one of budget, window, robbins-monro, fixed, topk',
    ],
    [
      { fusion: "orcle" },
      RangeError,
      `Cannot use option "fusion": found "orcle", expected one of ${FUSION_NAMES.join(", ")}`,
    ],
    [{ fusion: null }, TypeError, 'Cannot use option "fusion": found null, expected one of'],
    [
      { features: ["norm", "norm"] },
      RangeError,
      'Cannot use option "features": found ["norm", "norm"], expected a list of some of similarity, norm, ' +
      "projection, query, local, each once",
    ],
    [{ features: [] }, RangeError, 'Cannot use option "features": found [], expected a list of some of'],
    [
      { features: "norm" },
      TypeError,
      'Cannot use option "features": found "norm", expected a list of some of',
    ],
    [
      { skipRatios: [0, 1.5] },
      RangeError,
      'Cannot use option "skipRatios": found 1.5 for layer 1, expected a number in [0, 1]',
    ],
    [
      { skipRatios: { 0: 1 } },
      TypeError,
      'Cannot use option "skipRatios": found an object, expected a list of',
    ],
    [
      { schedule: "explicit" },
      RangeError,
      'Cannot use option "skipRatios": found undefined, expected one number a layer, since the schedule is explicit',
    ],
    [{ gama: 0.5 }, TypeError, 'Cannot use option "gama": no such option, the nearest is "gamma"'],
    [{ toString: 1 }, TypeError, 'Cannot use option "toString": no such option'],
    [[], TypeError, "Cannot use options: found Array, expected an object"],
    [
      { preset: "papers" },
      RangeError,
      'Cannot use option "preset": found "papers", expected one of paper, keys',
    ],
  ];
  for (const [options, type, message] of cases) {
    const error = assertThrows(() => resolveOptions(options as MethodOptions), type, message);
    assertEquals(error.message.includes("\n"), false);
  }
});

Deno.test("resolveOptions() refuses what the method does not define for learned", () => {
  const cases: [MethodOptions, string][] = [
    [
      { warmup: 7 },
      'Cannot use option "warmup": found 7, expected an integer from 8 to 65536 since the rule is "learned"',
    ],
    [{ warmup: 70_000 }, 'Cannot use option "warmup": found 70000'],
    [{ threshold: "fixed" }, 'Cannot use option "threshold": found "fixed", expected budget or window since'],
    [{ threshold: "topk" }, 'Cannot use option "threshold": found "topk"'],
    [{ threshold: "robbins-monro" }, 'Cannot use option "threshold": found "robbins-monro"'],
    [
      { absorb: "kept" },
      'Cannot use option "absorb": found "kept", expected all since the rule is "learned"',
    ],
  ];
  for (const [options, message] of cases) {
    assertThrows(() => resolveOptions({ ...options, fusion: "learned" }), RangeError, message);
    resolveOptions(options); // fine under another rule
  }
});

Deno.test("OPTION_NAMES lists every option once", () => {
  const resolved = [...Object.keys(resolveOptions()), "preset", "side", "cacheSkipped"].sort();
  assertEquals([...OPTION_NAMES].sort(), resolved);
});

Deno.test("OPTIONS says of each method's own options whose they are, and puts those of scores before the anchors", () => {
  const owners = Object.entries(OPTIONS).flatMap(([name, { of }]) =>
    of?.fusion ? [[name, of.fusion.join()]] : []
  );
  assertObjectMatch(Object.fromEntries(owners), {
    ...{ tau: "variance", lambda: "variance", eps: "variance", alpha: "static" },
    ...{ seed: "random,random-protected,learned", protect: "random-protected" },
    ...{ ridge: "learned", projections: "learned", features: "learned" },
  });
  const placed = ["invert", "tau", "alpha", "anchor", "recent", "block"].map((name) =>
    OPTION_NAMES.indexOf(name)
  );
  assertEquals(placed, placed.toSorted((a, b) => a - b));
});
