/** Intervals of proportions against statsmodels and scipy (testdata/make_share_golden.py), and at the ends of their range. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import golden from "./testdata/share_golden.json" with { type: "json" };
import { pairedShareInterval, shareInterval } from "./shares.ts";

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
