import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  createTrialPruner,
  effectiveKey,
  effectiveOptions,
  looksAhead,
  recordTrialOptions,
  resolveTrialOptions,
  type TrialOptions,
} from "./trial_options.ts";

const key = (options: TrialOptions) => effectiveKey(resolveTrialOptions(options));

Deno.test("resolveTrialOptions() takes oracle beside the filter's rules", () => {
  const oracle = resolveTrialOptions({ fusion: "oracle", pruneRatio: 0.3 });
  assertEquals([oracle.fusion, oracle.pruneRatio, oracle.recent], ["oracle", 0.3, 16]);
  assertEquals(resolveTrialOptions({ preset: "paper" }).recent, 0);
  assertThrows(
    () => resolveTrialOptions({ fusion: "orcle" as "oracle" }),
    RangeError,
    'oracle: the nearest is "oracle"',
  );
  assertThrows(() => resolveTrialOptions({ fusion: "oracle", pruneRatio: 1 }), RangeError, "pruneRatio");
});

Deno.test("recordTrialOptions() is plain JSON that keeps every option", () => {
  const record = recordTrialOptions(resolveTrialOptions({ seed: 7 }));
  assertEquals(JSON.parse(JSON.stringify(record)), record);
  assertEquals([record.seed, record.skipRatios, record.pruneRatio], [7, null, 0.5]);
  assertEquals(
    recordTrialOptions(resolveTrialOptions({ skipRatios: [0, 0.25, 0.5, 0.25] })).pruneRatio,
    0.25,
  );
  assertEquals(
    recordTrialOptions(resolveTrialOptions({ seed: 2n ** 64n - 1n })).seed,
    "18446744073709551615",
  );
});

Deno.test("effectiveKey() is blind to options without effect and sees all others", () => {
  const same: [TrialOptions, TrialOptions][] = [
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
    [{ cacheSkipped: true, recent: 0 }, { cacheSkipped: true, recent: 16 }],
    [{ threshold: "fixed" }, { threshold: "fixed", schedule: "ramp", slope: 1 }],
    [{ slope: 0.1 }, { slope: 0.9 }],
    [{ skipRatios: [0, 0.5], tail: 0.5 }, { skipRatios: [0, 0.5], tail: 1 }],
    [{ fusion: "oracle", window: 8 }, { fusion: "oracle", window: 16 }],
  ];
  for (const [a, b] of same) assertEquals(key(a), key(b), JSON.stringify([a, b]));
  const resolved = resolveTrialOptions();
  const reversed = Object.fromEntries(Object.entries(resolved).reverse()) as typeof resolved;
  assertEquals(effectiveKey(reversed), effectiveKey(resolved));
  const different: [TrialOptions, TrialOptions][] = [
    [{ tau: 1 }, { tau: 2 }],
    [{ fusion: "random", seed: 0 }, { fusion: "random", seed: 1 }],
    [{ fusion: "learned" }, { fusion: "learned", seed: 1 }],
    [{ fusion: "static", alpha: 0.5 }, { fusion: "static", alpha: 0.6 }],
    [{ recent: 0 }, { recent: 16 }],
    [{ fusion: "oracle" }, { fusion: "oracle", invert: true }],
    [{ fusion: "oracle" }, { fusion: "mean", threshold: "topk" }],
    [{ skipRatios: [0, 0.5] }, { skipRatios: [0.5, 0] }],
    ...["budget", "window"].map((threshold) =>
      [{ threshold, window: 8 }, { threshold, window: 9 }] as [TrialOptions, TrialOptions]
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
    ] as const).map(([name, a, b]) => [{ [name]: a }, { [name]: b }] as [TrialOptions, TrialOptions]),
    ...([
      ["block", 32, 16],
      ["ridge", 1, 2],
      ["projections", 16, 8],
      ["features", ["norm"], ["norm", "similarity"]],
      ["gamma", 0.9, 0.8],
      ["keyState", "post-rope", "pre-rope"],
    ] as const).map(([name, a, b]): [TrialOptions, TrialOptions] => [
      { fusion: "learned", [name]: a },
      { fusion: "learned", [name]: b },
    ]),
  ];
  for (const [a, b] of different) assertNotEquals(key(a), key(b), JSON.stringify([a, b]));
});

Deno.test("effectiveOptions() of an explicit schedule leaves tail and ratio out", () => {
  const names = Object.keys(effectiveOptions(resolveTrialOptions({ skipRatios: [0, 0.5] })));
  assert(names.includes("skipRatios") && !names.includes("tail") && !names.includes("pruneRatio"));
});

Deno.test("looksAhead() names oracle and topk", () => {
  const ahead = (options: TrialOptions) => looksAhead(resolveTrialOptions(options));
  assertEquals([ahead({ fusion: "oracle" }), ahead({ threshold: "topk" }), ahead({})], [true, true, false]);
});

Deno.test("createTrialPruner() binds either kind to a model, and names an unreachable layer", () => {
  const shape = { numLayers: 8, numHeads: 2, numKvHeads: 1, headDim: 4, hiddenSize: 8 };
  const make = (options: TrialOptions) => createTrialPruner(shape, resolveTrialOptions(options));
  assertEquals(make({ fusion: "oracle", tail: 0.5, pruneRatio: 0.2 }).looksAhead, "outputs");
  assertEquals(make({ fusion: "learned" }).layers, [2, 3, 4, 5, 6, 7]);
  assertThrows(() => make({ tail: 0.25 }), RangeError, "tail of at least 0.5");
});
