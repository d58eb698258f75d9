import type { RuleMethod } from "../protocol/method.ts";

/**
 * The score is the bits of the position, the lowest first, behind the binary point (van der Corput's sequence), in [0,
 * 1). The tokens of highest score are spread evenly over any stretch: a fraction of one half is every other token.
 */
export const periodic: RuleMethod<"periodic"> = {
  name: "periodic",
  help: "only the position, evenly spread: a control",
  reads: () => [],
  looks: { main: false },
  score: ({ position }) => position === 0 ? NaN : reverseBits(position) / 2 ** 32,
};

/** The 32 bits of a number in the opposite order. */
function reverseBits(x: number): number {
  let reversed = 0;
  for (let bit = 0; bit < 32; bit++) reversed = reversed * 2 + ((x >>> bit) & 1);
  return reversed;
}
