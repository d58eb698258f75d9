/** Intervals of proportions against statsmodels and scipy (testdata/make_share_golden.py), and at the ends of their range. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import golden from "./testdata/share_golden.json" with { type: "json" };
import { uniform } from "../math/random.ts";
import { meanOfMeans } from "./paired.ts";
import { meanOfIntervals, pairedShareInterval, shareInterval } from "./shares.ts";

const differences = (gained: number, lost: number, count: number) =>
  Array.from({ length: count }, (_, i) => i < gained ? 1 : i < gained + lost ? -1 : 0);

Deno.test("shareInterval() is statsmodels' Wilson interval", () => {
  assertEquals(golden.wilson.length, 12);
  for (const { right, count, confidence, ends } of golden.wilson) {
    const { estimate, low, high } = shareInterval(right / count, count, confidence);
    assertEquals(estimate, right / count);
    [low, high].forEach((end, i) => assertAlmostEquals(end, ends[i]!, 1e-12));
  }
});

Deno.test("pairedShareInterval() holds what a score test by numerical likelihood does not reject", () => {
  assertEquals(golden.tango.length, 18);
  for (const { gained, lost, count, confidence, ends } of golden.tango) {
    const { estimate, low, high } = pairedShareInterval(differences(gained, lost, count), confidence);
    assertAlmostEquals(estimate, (gained - lost) / count, 1e-12);
    [low, high].forEach((end, i) => assertAlmostEquals(end, ends[i]!, 1e-6, `${gained} ${lost} ${count}`));
  }
  // Fagerland, Lydersen and Laake (2014): 1 gained and 7 lost of 21.
  const { low, high } = pairedShareInterval(differences(1, 7, 21));
  assertEquals([low.toFixed(3), high.toFixed(3)], ["-0.517", "-0.026"]);
});

Deno.test("intervals of shares lie in their range and have a width, whatever 12 items say", () => {
  for (let gained = 0; gained <= 12; gained++) {
    const one = shareInterval(gained / 12, 12);
    assert(one.low >= 0 && one.high <= 1 && one.high - one.low > 0.2, `${gained}`);
    assert(one.low <= one.estimate && one.estimate <= one.high);
    for (let lost = 0; gained + lost <= 12; lost++) {
      const { estimate, low, high } = pairedShareInterval(differences(gained, lost, 12));
      assert(low >= -1 && high <= 1 && high - low > 0.2, `${gained} ${lost}: ${low} ${high}`);
      assert(low <= estimate && estimate <= high);
      const mirrored = pairedShareInterval(differences(lost, gained, 12));
      assertAlmostEquals(mirrored.low, -high, 1e-9);
    }
  }
  assertThrows(() => shareInterval(0.5, 12, 1), RangeError, `"confidence"`);
  assertThrows(
    () => pairedShareInterval([0], 0),
    RangeError,
    `"confidence": found 0, expected a number in (0, 1)`,
  );
});

Deno.test("pairedShareInterval() of fractions is as wide as of answers of that size", () => {
  const whole = pairedShareInterval(differences(2, 4, 30)),
    halves = pairedShareInterval([
      ...Array(4).fill(0.5),
      ...Array(8).fill(-0.5),
      ...Array(18).fill(0),
    ]);
  assertAlmostEquals(halves.low, whole.low, 1e-12);
  assertAlmostEquals(halves.high, whole.high, 1e-12);
});

Deno.test("meanOfIntervals() is of normal means the interval of their mean, and holds the mean of drawn shares in 95%", () => {
  const means = [[0.2, 0.03], [0.5, 0.04], [0.8, 0.12]] as const, z = 1.959964;
  const { mean, standardError } = meanOfMeans(
    means.map(([mean, standardError]) => ({ mean, standardError })),
  );
  assertAlmostEquals(standardError!, 0.13 / 3, 1e-12);
  const { estimate, low, high } = meanOfIntervals(
    means.map(([estimate, error]) => ({ estimate, low: estimate - z * error, high: estimate + z * error })),
  );
  assertAlmostEquals(estimate, mean, 1e-12);
  assertAlmostEquals(low, mean - z * standardError!, 1e-12);
  assertAlmostEquals(high, mean + z * standardError!, 1e-12);
  assertEquals(meanOfMeans([{ mean: 1, standardError: null }]).standardError, null);

  const shares = [0.55, 0.8, 0.97], counts = [20, 40, 60];
  let draws = 0n, held = 0;
  for (let run = 0; run < 2000; run++) {
    const found = shares.map((share, i) => {
      const right = Array.from({ length: counts[i]! }, () =>
        uniform(draws++) < share).filter((is) => is).length;
      return shareInterval(right / counts[i]!, counts[i]!);
    });
    const { low, high } = meanOfIntervals(found), mean = (0.55 + 0.8 + 0.97) / 3;
    if (low <= mean && mean <= high) held++;
  }
  assert(held >= 0.935 * 2000 && held <= 0.97 * 2000, `${held}`);
});
