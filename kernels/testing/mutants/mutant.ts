/** A change, and the test that must fail with it. */
export interface Mutant {
  /** What is wrong with it. */
  readonly name: string;
  /** Source file, below kernels/. */
  readonly file: string;
  /** Text that stands there once, and what takes its place. */
  readonly from: string;
  readonly to: string;
  /** Test file, below kernels/, and a pattern of the names of its tests to run. */
  readonly test: string;
  readonly filter: string;
}
