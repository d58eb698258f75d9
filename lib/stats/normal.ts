/** The normal distribution: its quantiles, and the fractions between them. */
import { expectBetween, expectTypeOf } from "../errors.ts";
import { normalCdf } from "../math/normal.ts";

const readNumbers = (row: string) => row.split(" ").map(Number);

/** Numerators and denominators, highest power first, of Wichura's algorithm AS241 (Applied Statistics 37, 1988). */
const CENTRE = [
  "2509.0809287301227 33430.57558358813 67265.7709270087 45921.95393154987 13731.69376550946 " +
  "1971.5909503065513 133.14166789178438 3.3871328727963665",
  "5226.495278852854 28729.085735721943 39307.89580009271 21213.794301586597 5394.196021424751 " +
  "687.1870074920579 42.31333070160091 1.0",
].map(readNumbers);
const TAIL = [
  "0.0007745450142783414 0.022723844989269184 0.2417807251774506 1.2704582524523684 3.6478483247632045 " +
  "5.769497221460691 4.630337846156546 1.4234371107496835",
  "1.0507500716444169e-9 0.0005475938084995345 0.015198666563616457 0.14810397642748008 0.6897673349851 " +
  "1.6763848301838038 2.053191626637759 1.0",
].map(readNumbers);
const FAR = [
  "2.0103343992922881e-7 2.7115555687434876e-5 0.0012426609473880784 0.026532189526576124 " +
  "0.29656057182850487 1.7848265399172913 5.463784911164114 6.657904643501103",
  "2.0442631033899397e-15 1.421511758316446e-7 1.8463183175100548e-5 0.0007868691311456133 " +
  "0.014875361290850615 0.1369298809227358 0.599832206555888 1.0",
].map(readNumbers);

const evaluate = (powers: readonly number[], x: number) =>
  powers.reduce((sum, factor) => sum * x + factor, 0);
const ratio = ([above, below]: readonly (readonly number[])[], x: number) =>
  evaluate(above!, x) / evaluate(below!, x);

/**
 * The value below which a standard normal variable lies with probability p, to 15 digits.
 *
 * @param p In (0, 1).
 * @throws {RangeError} If p is not in (0, 1).
 */
export function normalQuantile(p: number): number {
  expectBetween("p", p, 0, 1);
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) return q * ratio(CENTRE, 0.180625 - q * q);
  const r = Math.sqrt(-Math.log(Math.min(p, 1 - p)));
  return Math.sign(q) * (r <= 5 ? ratio(TAIL, r - 1.6) : ratio(FAR, r - 5));
}

/**
 * The smallest true difference that a two-sided test would find with the given power. An experiment that found nothing
 * cannot exclude differences smaller than this.
 *
 * @param standardError Standard error of the difference.
 * @param level Level of the test.
 * @throws {TypeError} If an argument is no number.
 * @throws {RangeError} If the power or the level is not in (0, 1).
 *
 * @example
 * ```ts
 * import { smallestDetectable } from "@tokenfilter/tokenfilter/stats";
 * console.assert(smallestDetectable(0.01).toFixed(4) === "0.0280"); // (1.960 + 0.842) standard errors
 * ```
 */
export function smallestDetectable(standardError: number, power = 0.8, level = 0.05): number {
  expectTypeOf("standardError", standardError, "number");
  expectBetween("power", power, 0, 1);
  expectBetween("level", level, 0, 1);
  return (normalQuantile(1 - level / 2) + normalQuantile(power)) * standardError;
}

/** The probability that a standard normal variable lies between a and b, a <= b; of its own size in either tail. */
export function normalMass(a: number, b: number): number {
  return a > 0 ? normalCdf(-a) - normalCdf(-b) : normalCdf(b) - normalCdf(a);
}
