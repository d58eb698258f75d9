import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { drawMovingBlocks } from "./bootstrap.ts";
import { auroc, midranks, resampleRankings, rocCurve, spearman } from "./ranking.ts";
import golden from "./testdata/golden.json" with { type: "json" };
import { normals } from "./testing.ts";

Deno.test("midranks(), spearman(), auroc() and rocCurve() equal scipy and scikit-learn", () => {
  assertEquals(golden.length, 6);
  for (const one of golden) {
    const scores = Float64Array.from(one.scores), target = Float64Array.from(one.target);
    const labels = Uint8Array.from(one.labels);
    assertEquals([...midranks(scores)], one.midranks, one.name);
    assertAlmostEquals(spearman(scores, target), one.spearman, 1e-9, one.name);
    assertAlmostEquals(auroc(scores, labels), one.auroc, 1e-9, one.name);
    rocCurve(scores, labels, one.grid).forEach((rate, i) =>
      assertAlmostEquals(rate, one.roc[i]!, 1e-9, one.name)
    );
  }
});

Deno.test("auroc() and spearman() turn their sign with the score, and know chance and perfection", () => {
  const x = normals(301, 4), labels = Uint8Array.from(x, (value) => value > 0.5 ? 1 : 0);
  const y = normals(301, 9), turned = y.map((value) => -value);
  assertEquals([auroc(x, labels), spearman(x, x.map(Math.exp))], [1, 1]);
  assertAlmostEquals(auroc(turned, labels), 1 - auroc(y, labels), 1e-12);
  assertAlmostEquals(spearman(turned, x), -spearman(y, x), 1e-12);
  assertEquals(auroc(new Float64Array(301), labels), 0.5);
});

Deno.test("auroc() and spearman() are NaN where they are undefined, and refuse what they cannot compare", () => {
  assertEquals(auroc(Float64Array.of(1, 2), Uint8Array.of(1, 1)), NaN);
  assertEquals(rocCurve(Float64Array.of(1, 2), Uint8Array.of(0, 0), [0, 1]), []);
  assertEquals(spearman(Float64Array.of(1, 1), Float64Array.of(1, 2)), NaN);
  assertEquals(spearman(new Float64Array(0), new Float64Array(0)), NaN);
  assertThrows(() => auroc(Float64Array.of(1), Uint8Array.of(1, 0)), RangeError, "found 1 and 2 values");
  assertThrows(() => midranks(Float64Array.of(1, NaN)), RangeError, "found NaN at 1");
});

Deno.test("resampleRankings() equals auroc() and spearman() of the resampled values themselves", () => {
  const lengths = [40, 25], target = normals(65, 1).map((x) => Math.round(3 * x) / 3);
  const scores = [
    normals(65, 2),
    target.map((x, i) => Math.round(x + normals(65, 3)[i]!)),
    new Float64Array(65),
  ];
  const labels = Uint8Array.from(target, (x) => x > 0.4 ? 1 : 0);
  const blocks = drawMovingBlocks(lengths, { blockSize: 6, resamples: 40 });
  const draws = resampleRankings(scores, labels, target, blocks);
  assert(draws.every(({ auroc, spearman }) => auroc.length === 40 && spearman.length === 40));
  const counts = new Float64Array(65);
  for (let resample = 0; resample < 40; resample++) {
    blocks.fill(resample, counts);
    const picks = [...counts].flatMap((count, i) => Array<number>(count).fill(i));
    const take = (values: Float64Array) => Float64Array.from(picks, (i) => values[i]!);
    scores.forEach((series, i) => {
      const { auroc: a, spearman: s } = draws[i]!;
      assertAlmostEquals(a[resample]!, auroc(take(series), Uint8Array.from(picks, (p) => labels[p]!)), 1e-12);
      const expected = spearman(take(series), take(target));
      if (Number.isNaN(expected)) assertEquals(s[resample], NaN);
      else assertAlmostEquals(s[resample]!, expected, 1e-12);
    });
  }
  assert(draws[2]!.spearman.every(Number.isNaN));
  assertThrows(
    () => resampleRankings([target], labels, target.subarray(1), blocks),
    RangeError,
    "found 64 values",
  );
});
