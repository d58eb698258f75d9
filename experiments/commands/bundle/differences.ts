/** Numbers of two results of the same run, place by place. */

/** A number that another run has differently. */
export interface DifferingNumber {
  /** Where it is, as in `methods "keys" loss`. */
  readonly place: string;
  /** Before and after; undefined where it is missing. */
  readonly values: readonly [before: unknown, after: unknown];
}

/** Facts of the machine and the moment: conditions are compared by name, and times differ always. */
const OF_RUN = /^environment$|Ms$|MemoryBytes$/;

type Data = { readonly [key: string]: unknown };

/** What a record is called, in a list of such. */
function placeOf(value: unknown, index: string): string {
  const { name, trial, method } = Object(value) as Data, own = name ?? trial ?? method;
  return typeof own === "string" ? `"${own}"` : index;
}

/**
 * Compares the numbers of two results.
 *
 * @returns How many the first has, and those that differ.
 */
export function compareNumbers(before: unknown, after: unknown): {
  readonly count: number;
  readonly differing: readonly DifferingNumber[];
} {
  const differing: DifferingNumber[] = [];
  let count = 0;
  const visit = (a: unknown, b: unknown, place: string) => {
    const isNumber = [a, b].some((value) => typeof value === "number" || typeof value === "bigint");
    if (isNumber) {
      count++;
      if (!Object.is(a, b)) differing.push({ place, values: [a, b] });
      return;
    }
    const keys = [a, b].flatMap((value) =>
      typeof value === "object" && value !== null ? Object.keys(value) : []
    );
    for (const key of new Set(keys)) {
      if (OF_RUN.test(key)) continue;
      const [own, other] = [(Object(a) as Data)[key], (Object(b) as Data)[key]];
      const name = Array.isArray(a ?? b) ? placeOf(own ?? other, key) : key;
      visit(own, other, place === "" ? name : `${place} ${name}`);
    }
  };
  visit(before, after, "");
  return { count, differing };
}

/** The largest difference of two numbers, as a fraction of the first; infinite where one is none. */
export function largestDifference(differing: readonly DifferingNumber[]): number {
  return Math.max(
    0,
    ...differing.map(({ values: [a, b] }) =>
      typeof a === "number" && typeof b === "number"
        ? Math.abs(a - b) / Math.max(Math.abs(a), 1e-300)
        : Infinity
    ),
  );
}
