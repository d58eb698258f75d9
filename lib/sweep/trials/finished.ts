/** Finished work of any kind, and where the next piece goes. */

/** What was finished before, and where the next record goes. */
export interface FinishedRuns<T> {
  /** What was finished before, in its order. */
  readonly finished: readonly T[];
  /** Keeps records; they are safe when this returns. */
  append(...records: readonly T[]): void;
}
