import { assertEquals, assertThrows } from "@std/assert";
import { readSearchSpace } from "./search_space.ts";

Deno.test("readSearchSpace() takes values, lists, ranges and conditions, and puts axes behind their conditions", () => {
  assertEquals(
    readSearchSpace({
      tau: { low: 0.1, high: 8, log: true, when: { fusion: "variance" } },
      fusion: ["variance", "mean"],
      "prune-ratio": 0.5,
      warmup: { low: 8, high: 97, step: 16 },
      recent: { low: 1, high: 64, log: true },
      gamma: { low: 0.5, high: 0.9, step: 0.1 },
      invert: { choices: [true, false], when: { fusion: ["mean"] } },
      features: ["similarity+norm", "norm"],
    }),
    [
      { name: "fusion", choices: ["variance", "mean"] },
      { name: "tau", low: 0.1, high: 8, log: true, step: 0, when: { fusion: ["variance"] } },
      { name: "pruneRatio", choices: [0.5] },
      { name: "warmup", low: 8, high: 88, log: false, step: 16 },
      { name: "recent", low: 1, high: 64, log: true, step: 1 },
      { name: "gamma", low: 0.5, high: 0.9, log: false, step: 0.1 },
      { name: "invert", choices: [true, false], when: { fusion: ["mean"] } },
      { name: "features", choices: [["similarity", "norm"], ["norm"]] },
    ],
  );
});

Deno.test("readSearchSpace() names the key that is wrong, in one line", () => {
  const range = { low: 0, high: 1 };
  const cases: [unknown, string][] = [
    [[], "a search space: found []"],
    [{}, "expected an object of axes"],
    [{ gama: 1 }, 'axis "gama": no such option, the nearest is "gamma"'],
    [{ tau: 1, "tau ": 2 }, 'axis "tau "'],
    [{ pruneRatio: 0.1, "prune-ratio": 0.2 }, '"pruneRatio" twice'],
    [{ tau: [] }, '"tau": found an empty list'],
    [{ tau: [1, 1] }, '"tau": found a choice twice'],
    [{ tau: { low: 8, high: 1 } }, '"tau": found the empty range [8, 1]'],
    [{ tau: { low: 1, high: 1 } }, "the empty range [1, 1]"],
    [{ tau: { low: -1, high: 1 } }, '"tau": found -1, expected a number in'],
    [{ tau: { low: 0, high: 1e9 } }, '"tau": found 1000000000'],
    [{ tau: { high: 1 } }, '"tau": expected "low" and "high"'],
    [{ tau: { low: "0", high: 1 } }, 'expected "low" and "high", two numbers'],
    [{ tau: { lo: 0, high: 1 } }, '"tau": found "lo", expected some of choices, low, high, log, step, when'],
    [{ tau: { ...range, log: true } }, 'found "log" from 0 on'],
    [{ tau: { ...range, log: 1 } }, 'found "log" 1'],
    [{ tau: { ...range, step: 0 } }, 'found "step" 0, expected a number in (0, 1]'],
    [{ tau: { ...range, step: 2 } }, 'found "step" 2'],
    [{ tau: { low: 1, high: 2, log: true, step: 1 } }, 'found "log" and "step"'],
    [{ tau: { ...range, choices: [1] } }, 'found "choices" and "low"'],
    [{ warmup: { low: 0, high: 8, step: 0.5 } }, '"warmup": found "step" 0.5, expected a whole number'],
    [{ warmup: { low: 0.5, high: 8 } }, '"warmup": found 0.5, expected an integer'],
    [{ fusion: { low: 0, high: 1 } }, '"fusion": found a range, expected a list of choices'],
    [{ fusion: ["varience"] }, '"fusion": found "varience"'],
    [{ tau: { ...range, when: 1 } }, '"tau": found "when" 1'],
    [{ tau: { ...range, when: { fuson: "mean" } } }, 'axis "tau" when "fuson": no such option'],
    [{ tau: { ...range, when: { fusion: "mean" } } }, 'names "fusion", which is no axis of the space'],
    [
      { fusion: ["key"], tau: { ...range, when: { fusion: "mean" } } },
      'wants "mean", which is no choice of "fusion"',
    ],
    [{ gamma: { low: 0, high: 0.5 }, tau: { ...range, when: { gamma: 0 } } }, 'names "gamma", a range'],
    [
      {
        invert: { choices: [true], when: { absorb: "all" } },
        absorb: { choices: ["all"], when: { invert: true } },
      },
      '"invert": its conditions go round in a circle',
    ],
  ];
  for (const [space, line] of cases) {
    const error = assertThrows(() => readSearchSpace(space), Error, line);
    assertEquals(error.message.includes("\n"), false);
  }
});

Deno.test("seeds in flags' lists are integers as JSON keeps them, in which a study keeps its search", () => {
  const seed = [0n, 7n] as never;
  assertEquals(readSearchSpace({ seed }), [{ name: "seed", choices: [0, 7] }]);
  const large = [0n, 2n ** 53n] as never;
  assertThrows(
    () => readSearchSpace({ seed: large }),
    RangeError,
    "expected a seed of at most 9007199254740991",
  );
});
