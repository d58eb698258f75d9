/** Simulates how often each kind of interval on the pages of results contains the truth: 93% to 97%. */
import { assert } from "@std/assert";
import { uniform } from "../../lib/math/random.ts";
import { testSlow } from "../../lib/testing.ts";
import { type Interval, pairedShareInterval, shareInterval } from "../../lib/stats/mod.ts";
import { chunkInterval } from "./comparison/losses.ts";
import { meanInterval } from "./comparison/tables.ts";

const DRAWS = 4000;
let drawn = 0n;
const draw = () => uniform(drawn++);
const normal = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
const times = <T>(count: number, of: (i: number) => T) => Array.from({ length: count }, (_, i) => of(i));

/** The fraction of simulated intervals that contain the truth; of a family, all of them. */
function cover(truth: number, simulate: () => Interval | readonly Interval[]): number {
  const contains = ({ low, high }: Interval) => low <= truth && truth <= high;
  return times(DRAWS, () => [simulate()].flat().every(contains)).filter(Boolean).length / DRAWS;
}

const blocks = (sums: readonly number[]) => ({ lossBlocks: { sums, sizes: sums.map(() => 1) } });
const dense = (count: number) => blocks(times(count, () => 0));
/** Differences of paired answers: gained, lost, or alike. */
const answers = (count: number, gained: number, lost: number) =>
  times(count, () => {
    const value = draw();
    return value < gained ? 1 : value < gained + lost ? -1 : 0;
  });

/** Kinds of intervals, each with the truth and a simulation. */
const KINDS: { readonly [kind: string]: readonly [number, () => Interval | readonly Interval[]] } = {
  "Student's t over 6 chunks": [0, () => chunkInterval(6, blocks(times(6, normal)), dense(6))],
  "Student's t over 16 chunks": [0, () => chunkInterval(16, blocks(times(16, normal)), dense(16))],
  "Student's t over 64 chunks": [0, () => chunkInterval(64, blocks(times(64, normal)), dense(64))],
  "Student's t over 16 chunks whose losses are skewed": [
    1,
    () => chunkInterval(16, blocks(times(16, () => Math.exp(0.4 * normal() - 0.08))), dense(16)),
  ],
  "48 simultaneous intervals over 16 chunks": [
    0,
    () => times(48, () => chunkInterval(16, blocks(times(16, normal)), dense(16), 1 - 0.05 / 48)),
  ],
  "Wilson's interval of 100 items": [
    0.8,
    () => shareInterval(times(100, () => Number(draw() < 0.8)).reduce((a, b) => a + b, 0) / 100, 100),
  ],
  "Tango's interval of 100 paired items": [-0.15, () => pairedShareInterval(answers(100, 0.05, 0.2))],
  "Tango's interval of 500 paired items": [-0.02, () => pairedShareInterval(answers(500, 0.06, 0.08))],
  "the mean over four tasks of 500 paired items": [
    -0.02,
    () => meanInterval(times(4, () => pairedShareInterval(answers(500, 0.06, 0.08)))),
  ],
};

for (const [kind, [truth, simulate]] of Object.entries(KINDS)) {
  testSlow(`95% intervals cover 93% to 97% in simulation: ${kind}`, () => {
    const covered = cover(truth, simulate);
    assert(covered >= 0.93 && covered <= 0.97, `found ${covered}`);
  });
}
