/** A number and its noun: `1 chunk`, `2 chunks`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
