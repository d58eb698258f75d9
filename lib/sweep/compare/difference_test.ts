import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { MethodOptions } from "../../methods/bind/options.ts";
import { makeSummary, makeTrial } from "../../plot/testing.ts";
import { intervalAround, pairedMean } from "../../stats/paired.ts";
import { recordLosses } from "../../eval/evaluation.ts";
import type { Comparison } from "./comparison.ts";
import { diffRuns, type RunResult, signOf } from "./difference.ts";

const trial = (options: MethodOptions, loss: number, achieved = options.pruneRatio ?? 0.5) =>
  makeTrial({ pruneRatio: 0.5, ...options }, achieved, 40 * Math.exp(loss));
const sweep = (
  name: string,
  trials: readonly ReturnType<typeof trial>[],
  environment: object = {},
): RunResult => {
  const summary = makeSummary(trials);
  return {
    kind: "sweep",
    name,
    data: { ...summary, environment: { ...summary.environment, ...environment } },
  };
};

Deno.test("diffRuns() matches trials by their options, whatever the one is that sets the runs apart", () => {
  const rules = ["variance", "learned", "key"] as const;
  const a = sweep("a", rules.map((fusion, i) => trial({ fusion, recent: 0 }, i / 4)));
  const b = sweep("b", [
    ...rules.slice(0, 2).map((fusion, i) => trial({ fusion, recent: 16 }, i / 4 + 0.125)),
    trial({ fusion: "mean", recent: 16 }, 0.5),
  ]);
  const { options, paired, unpaired, conditions, rows, dense } = diffRuns(a, b);
  assertEquals([options, paired, unpaired, conditions], [
    [{ name: "recent", a: "0", b: "16" }],
    true,
    undefined,
    [],
  ]);
  assertEquals(rows.map(({ trial, a, b }) => [trial!.fusion, a !== null, b !== null]), [
    ["variance", true, true],
    ["learned", true, true],
    ["key", true, false],
    ["mean", false, true],
  ]);
  // The blocks of all trials waver alike: paired, nothing is left but the difference.
  for (const { difference } of rows.slice(0, 2)) {
    const { estimate, low, high } = difference!;
    assertAlmostEquals(estimate, 0.125, 1e-9);
    assert(high - low < 1e-9 && signOf(difference!) === 1);
  }
  assertEquals(rows.slice(2).map(({ difference }) => difference), [null, null]);
  assertEquals(signOf(dense!.difference!), 0);
  // If each run has only one rule, these rules are the difference of the runs.
  const single = diffRuns(
    sweep("a", [trial({ fusion: "key" }, 0)]),
    sweep("b", [trial({ fusion: "variance" }, 1)]),
  );
  assertEquals(single.rows.length, 1);
  assertEquals(single.options.find(({ name }) => name === "fusion"), {
    name: "fusion",
    a: '"key"',
    b: '"variance"',
  });
});

Deno.test("diffRuns() pairs losses of the same tokens alone, and says why where it does not", () => {
  const run = (loss: number, environment: object = {}) => sweep("x", [trial({}, loss)], environment);
  const other = diffRuns(
    run(0.5),
    run(0.75, { tokensSha256: "ee".repeat(32), text: "another of the texts", context: 512 }),
  );
  assertEquals(other.unpaired, "the runs did not read the same tokens in the same chunks");
  assertEquals(other.conditions, [
    { name: "text", a: "numbers <1>", b: "another of the texts" },
    { name: "tokensSha256", a: "dd", b: "eeeeeeeeeeee" },
  ]);
  // Two independent intervals of standard errors of 0.01 over 16 blocks.
  const { estimate, low, high } = other.rows[0]!.difference!, half = intervalAround(0, 0.01, 16).high;
  assertAlmostEquals(estimate, 0.25, 1e-12);
  assertAlmostEquals(high - estimate, Math.SQRT2 * half, 1e-12);
  assertAlmostEquals(estimate - low, Math.SQRT2 * half, 1e-12);
  assertThrows(
    () => diffRuns(run(0), run(0, { context: 256 })),
    RangeError,
    'Cannot compare "x" with "x": found GPTQ style at 512 and GPTQ style at 256, expected one protocol',
  );
  const old = "a run was written by a version that kept no losses to pair by";
  assertEquals(diffRuns(run(0), run(0, { tokensSha256: undefined })).unpaired, old);
  const { lossBlocks: _, ...bare } = trial({}, 0);
  assertEquals(diffRuns(run(0), sweep("y", [bare as ReturnType<typeof trial>])).unpaired, old);
});

Deno.test("diffRuns() pairs answers of items by their retained: inside the range, and of some width at 12 items", () => {
  const { environment } = makeSummary([]), items = { ...environment, task: "needle" };
  const method = (name: string, errors: readonly number[]) => ({
    ...{ name, loss: errors.reduce((a, b) => a + b) / 12, achievedRatio: 0.5, kvAchievedRatio: null },
    ...{
      missed: false,
      lossIncrease: null,
      lossBlocks: recordLosses(errors.map((error) => Float64Array.of(error))),
    },
  });
  const compare = (errors: readonly number[]) => {
    const methods = [method("dense", Array(12).fill(0)), method("key", errors)];
    return {
      kind: "compare",
      name: "c",
      data: { methods, environment: items } as unknown as Comparison,
    } as const;
  };
  const [dense, key] = (() => {
    const diff = diffRuns(compare(Array(12).fill(0)), compare(Array(12).fill(1)));
    return [diff.dense!.difference!, diff.rows[0]!.difference!];
  })();
  assertEquals([key.estimate, key.high, key.low > 0.51 && key.low < 0.52], [1, 1, true]);
  assertEquals([dense.estimate, signOf(dense)], [0, 0]);
  assert(dense.low < -0.2 && dense.high > 0.2);
});

Deno.test("diffRuns() says of a difference that it is one beyond its interval and beyond rounding", () => {
  assertEquals(signOf({ estimate: 0.1, low: 0.01, high: 0.2 }), 1);
  assertEquals(signOf({ estimate: -0.1, low: -0.2, high: -0.01 }), -1);
  assertEquals(signOf({ estimate: 0.1, low: -0.01, high: 0.2 }), 0);
  assertEquals(signOf({ estimate: 1e-7, low: 1e-8, high: 2e-7 }), 0);
  assertEquals(signOf({ estimate: 1, low: NaN, high: NaN }), 0);
});

Deno.test("diffRuns() pairs token losses of score, sequence by sequence", () => {
  const losses = (shift: number) =>
    Array.from({ length: 198 }, (_, i) => 3 + Math.sin(i * i) + shift * (1 + (i % 3)));
  const ids = Array.from({ length: 200 }, (_, i) => i), lengths = [150, 50];
  const score = (data: object): RunResult => ({
    kind: "score",
    name: "s",
    data: { ids, nll: losses(0), lengths, ...data },
  });
  const { paired, rows, dense } = diffRuns(score({}), score({ nll: losses(0.25) }));
  assertEquals([paired, dense], [true, undefined]);
  const differences = losses(0.25).map((loss, i) => loss - losses(0)[i]!);
  const segments = [differences.slice(0, 149), differences.slice(149)].map((part) => Float64Array.from(part));
  const { mean, standardError } = pairedMean(segments, 64), { estimate, low, high } = rows[0]!.difference!;
  assertAlmostEquals(estimate, mean, 1e-6);
  assertAlmostEquals((high - low) / 2, intervalAround(0, standardError, 4).high, 1e-5);
  const moved = diffRuns(
    score({ denseNll: losses(-1) }),
    score({ ids: ids.map((id) => id + 1), denseNll: losses(-1) }),
  );
  assertEquals([moved.paired, moved.rows[0]!.difference!.estimate], [false, 0]);
  assertEquals(diffRuns(score({}), score({ ids: [...ids].reverse() })).rows[0]!.difference, null);
});

Deno.test("diffRuns() matches methods of comparisons by name, and refuses results of different tasks", () => {
  const { environment } = makeSummary([]);
  const method = (name: string, loss: number) => ({
    ...{ name, loss, achievedRatio: 0.5, kvAchievedRatio: null, missed: false, lossIncrease: null },
    lossBlocks: recordLosses([Float64Array.from({ length: 511 }, (_, i) => loss + Math.cos(i))]),
  });
  const compare = (...methods: object[]) =>
    ({ kind: "compare", name: "c", data: { methods, environment } as unknown as Comparison }) as const;
  const diff = diffRuns(
    compare(method("dense", 3), method("key", 4), method("paper", 5)),
    compare(method("dense", 3), method("paper", 4.5)),
  );
  assertEquals(diff.rows.map(({ name, b }) => [name, b === null]), [["key", true], ["paper", false]]);
  assertAlmostEquals(diff.rows[1]!.difference!.estimate, -0.5, 1e-6);
  assertThrows(
    () => diffRuns(compare(), sweep("s", [])),
    RangeError,
    'Cannot compare "c" with "s": found results of',
  );
});
