import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  createPruner,
  effectiveKey,
  effectiveOptions,
  type MethodOptions,
  nonCausal,
  readRecord,
  recordOptions,
  resolveOptions,
} from "../mod.ts";

const key = (options: MethodOptions) => effectiveKey(resolveOptions(options));

Deno.test("resolveOptions() takes oracle beside the filter's rules", () => {
  const oracle = resolveOptions({ fusion: "oracle", pruneRatio: 0.3 });
  assertEquals([oracle.fusion, oracle.pruneRatio, oracle.recent], ["oracle", 0.3, 16]);
  assertEquals(resolveOptions({ preset: "paper" }).recent, 0);
  assertThrows(
    () => resolveOptions({ fusion: "orcle" as "oracle" }),
    RangeError,
    ': the nearest is "oracle"',
  );
  assertThrows(() => resolveOptions({ fusion: "oracle", pruneRatio: 1 }), RangeError, "pruneRatio");
});

Deno.test("recordOptions() is plain JSON that keeps every option", () => {
  const record = recordOptions(resolveOptions({ seed: 7 }));
  assertEquals(JSON.parse(JSON.stringify(record)), record);
  assertEquals([record.seed, record.skipRatios, record.pruneRatio], [7, null, 0.5]);
  assertEquals(
    recordOptions(resolveOptions({ skipRatios: [0, 0.25, 0.5, 0.25] })).pruneRatio,
    0.25,
  );
  assertEquals(
    recordOptions(resolveOptions({ seed: 2n ** 64n - 1n })).seed,
    "18446744073709551615",
  );
});

Deno.test("readRecord() gives the options that a record stands for", () => {
  for (const options of [{}, { seed: 2n ** 64n - 1n }, { fusion: "oracle", skipRatios: [0, 0.5] }] as const) {
    const resolved = resolveOptions(options), { pruneRatio } = recordOptions(resolved);
    assertEquals(readRecord(recordOptions(resolved)), { ...resolved, pruneRatio });
  }
});

Deno.test("effectiveKey() is blind to options without effect and sees all others", () => {
  const same: [MethodOptions, MethodOptions][] = [
    [{ fusion: "mean", tau: 1 }, { fusion: "mean", tau: 4, lambda: 2, alpha: 0.1, seed: 9 }],
    [{ fusion: "random", gamma: 0.9 }, {
      fusion: "random",
      gamma: 0.5,
      anchor: "mean",
      keyState: "pre-rope",
    }],
    [{ anchor: "mean", gamma: 0.9 }, { anchor: "mean", gamma: 0.5 }],
    [{ threshold: "fixed", theta: 0.2 }, { threshold: "fixed", theta: 0.2, pruneRatio: 0.1, eta: 1 }],
    [{ fusion: "learned", features: ["norm"] }, {
      fusion: "learned",
      features: ["norm"],
      projections: 4,
      seed: 3,
    }],
    [{ fusion: "oracle" }, { fusion: "oracle", threshold: "topk" }],
    [{ cacheSkipped: true, recent: 0 }, { side: "query", recent: 16 }],
    [{ sinks: 1 }, { sinks: 2 }],
    [{ substitute: "mean", fusion: "oracle", sinks: 3 }, { substitute: "mean", fusion: "oracle" }],
    [{ side: "key", substitute: "last" }, { side: "key" }],
    [{ kvRatio: 0.1, kvTail: 0.5, block: 8 }, { kvRatio: 0.2, kvTail: 1, block: 4 }],
    [{ side: "key", fusion: "mean", pruneRatio: 0.3, tail: 0.5 }, {
      fusion: "learned",
      pruneRatio: 0,
      tail: 0.75,
      kvFusion: "mean",
      kvRatio: 0.3,
      kvTail: 0.5,
      tau: 3,
      ridge: 4,
    }],
    [{ side: "key", threshold: "fixed" }, { side: "key", threshold: "fixed", kvRatio: 0.1 }],
    [{ side: "key", skipRatios: [0, 0.5] }, { side: "key", skipRatios: [0, 0.5], kvTail: 0.5 }],
    [{ side: "key", kvFusion: "knorm" }, {
      side: "key",
      kvFusion: "knorm",
      gamma: 0.1,
      keyState: "pre-rope",
      seed: 4,
    }],
    [{ threshold: "fixed" }, { threshold: "fixed", schedule: "ramp", slope: 1 }],
    [{ slope: 0.1 }, { slope: 0.9 }],
    [{ skipRatios: [0, 0.5], tail: 0.5 }, { skipRatios: [0, 0.5], tail: 1 }],
    [{ fusion: "oracle", window: 8 }, { fusion: "oracle", window: 16 }],
  ];
  for (const [a, b] of same) assertEquals(key(a), key(b), JSON.stringify([a, b]));
  const resolved = resolveOptions();
  const reversed = Object.fromEntries(Object.entries(resolved).reverse()) as typeof resolved;
  assertEquals(effectiveKey(reversed), effectiveKey(resolved));
  const different: [MethodOptions, MethodOptions][] = [
    [{ tau: 1 }, { tau: 2 }],
    [{ fusion: "random", seed: 0 }, { fusion: "random", seed: 1 }],
    [{ fusion: "learned" }, { fusion: "learned", seed: 1 }],
    [{ fusion: "static", alpha: 0.5 }, { fusion: "static", alpha: 0.6 }],
    [{ recent: 0 }, { recent: 16 }],
    [{ substitute: "mean" }, { substitute: "none" }],
    [{ substitute: "mean" }, { substitute: "last" }],
    [{ substitute: "mean", block: 32 }, { substitute: "mean", block: 16 }],
    [{ substitute: "local", sinks: 4 }, { substitute: "local", sinks: 3 }],
    [{ substitute: "local", side: "query", recent: 4 }, { substitute: "local", side: "query", recent: 5 }],
    [{ schedule: "allocated" }, { schedule: "uniform" }],
    [{ fusion: "oracle" }, { fusion: "oracle", invert: true }],
    [{ fusion: "oracle" }, { fusion: "mean", threshold: "topk" }],
    [{ skipRatios: [0, 0.5] }, { skipRatios: [0.5, 0] }],
    ...["budget", "window"].map((threshold) =>
      [{ threshold, window: 8 }, { threshold, window: 9 }] as [MethodOptions, MethodOptions]
    ),
    [{ threshold: "robbins-monro", eta: 0.1 }, { threshold: "robbins-monro", eta: 0.2 }],
    [{ threshold: "fixed", theta: 0.1 }, { threshold: "fixed", theta: 0.2 }],
    [{ schedule: "ramp", slope: 0.1 }, { schedule: "ramp", slope: 0.2 }],
    [{ schedule: "ramp" }, { schedule: "uniform" }],
    ...([
      ["lambda", 0, 1],
      ["eps", 1e-6, 1e-5],
      ["anchor", "ema", "mean"],
      ["gamma", 0.9, 0.8],
      ["absorb", "all", "kept"],
      ["keyState", "post-rope", "pre-rope"],
      ["pruneRatio", 0.1, 0.2],
      ["tail", 0.75, 1],
      ["warmup", 32, 16],
      ["threshold", "budget", "window"],
      ["cacheSkipped", false, true],
      ["invert", false, true],
    ] as const).map(([name, a, b]) => [{ [name]: a }, { [name]: b }] as [MethodOptions, MethodOptions]),
    [{ side: "key" }, { side: "query" }],
    [{ side: "key" }, { kvFusion: "variance" }],
    [{ kvFusion: "key" }, { kvFusion: "value" }],
    [{ kvFusion: "key", fusion: "mean" }, { kvFusion: "key", fusion: "min" }],
    [{ kvFusion: "random" }, { kvFusion: "random", seed: 1 }],
    [{ kvFusion: "static", fusion: "random" }, { kvFusion: "static", fusion: "random", alpha: 0.1 }],
    ...([
      ["block", 32, 16],
      ["kvRatio", 0.1, 0.2],
      ["kvTail", 1, 0.5],
      ["warmup", 32, 16],
      ["recent", 0, 16],
      ["invert", false, true],
      ["tau", 1, 2],
      ["keyState", "post-rope", "pre-rope"],
    ] as const).map(([name, a, b]): [MethodOptions, MethodOptions] => [
      { side: "key", [name]: a },
      { side: "key", [name]: b },
    ]),
    ...([
      ["block", 32, 16],
      ["ridge", 1, 2],
      ["projections", 16, 8],
      ["features", ["norm"], ["norm", "similarity"]],
      ["gamma", 0.9, 0.8],
      ["keyState", "post-rope", "pre-rope"],
    ] as const).map(([name, a, b]): [MethodOptions, MethodOptions] => [
      { fusion: "learned", [name]: a },
      { fusion: "learned", [name]: b },
    ]),
  ];
  for (const [a, b] of different) assertNotEquals(key(a), key(b), JSON.stringify([a, b]));
});

Deno.test("effectiveOptions() of an explicit schedule leaves tail and ratio out", () => {
  const names = Object.keys(effectiveOptions(resolveOptions({ skipRatios: [0, 0.5] })));
  assert(names.includes("skipRatios") && !names.includes("tail") && !names.includes("pruneRatio"));
});

Deno.test("effectiveOptions() of the key side alone are its own", () => {
  const effective = effectiveOptions(resolveOptions({ preset: "keys" }));
  assertEquals(effective, {
    ...{ invert: false, tau: 1, lambda: 0, eps: 1e-6, anchor: "ema", gamma: 0.9, absorb: "all" },
    ...{ schedule: "uniform", warmup: 64, threshold: "budget", window: 256, keyState: "post-rope" },
    ...{ recent: 32, block: 32, kvFusion: "variance", kvRatio: 0.5, kvTail: 1 },
  });
  const list = recordOptions(resolveOptions({ side: "key", skipRatios: [0, 0.5] }));
  assertEquals([list.pruneRatio, list.kvRatio], [0, 0.25]);
});

Deno.test("nonCausal() names oracle and topk", () => {
  const ahead = (options: MethodOptions) => nonCausal(resolveOptions(options));
  assertEquals([ahead({ side: "key" }), ahead({ side: "key", threshold: "topk" })], [false, true]);
  assertEquals(ahead({ side: "key", fusion: "oracle", kvFusion: "key" }), false);
  assertEquals(ahead({ fusion: "oracle", kvFusion: "key", threshold: "topk" }), true);
  assertEquals([ahead({ fusion: "oracle" }), ahead({ threshold: "topk" }), ahead({})], [true, true, false]);
});

Deno.test("createPruner() binds either kind to a model, and names an unreachable layer", () => {
  const shape = { numLayers: 8, numHeads: 2, numKvHeads: 1, headDim: 4, hiddenSize: 8 };
  const make = (options: MethodOptions) => createPruner("token-filtering", shape, resolveOptions(options));
  assertEquals(make({ fusion: "oracle", tail: 0.5, pruneRatio: 0.2 }).needs, ["future outputs"]);
  assertEquals(make({ fusion: "learned" }).layers, [2, 3, 4, 5, 6, 7]);
  assertThrows(() => make({ tail: 0.25 }), RangeError, "tail of at least 0.5");
});
