/** A change, and the test that must fail with it. */
export interface Mutant {
  /** Its fault, in words. */
  readonly name: string;
  /** Source file, below kernels/. */
  readonly file: string;
  /** Text that occurs there once, and its replacement. */
  readonly from: string;
  readonly to: string;
  /** Test file, below kernels/, and a pattern of the names of its tests to run. */
  readonly test: string;
  readonly filter: string;
}
