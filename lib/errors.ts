/**
 * The few error classes that a caller may catch by name; every other error is a built-in one. Also checks of arguments.
 */
import { sayNearest } from "./nearest.ts";

/** The native library could not be found, built or loaded; the message lists every place tried and the fix. */
export class NativeLibraryError extends Error {
  /** The class's name. */
  override readonly name = "NativeLibraryError";
}

/** There is no native library, none was named, and this machine cannot build one: the one case with a way around it. */
export class NoLibraryError extends NativeLibraryError {}

/** A native kernel refused its arguments or failed. */
export class KernelError extends Error {
  /** The class's name. */
  override readonly name = "KernelError";
  /** Status code of the C ABI (`TKF_STATUS_…`). */
  readonly code: number;
  /** The ABI function that failed. */
  readonly op: string;

  /** Made when a call returns an error status. @param op ABI function @param code status @param message its text */
  constructor(op: string, code: number, message: string) {
    super(`Cannot run ${op}: ${message}`);
    this.op = op;
    this.code = code;
  }
}

/** A model file is broken, or contains something that this project does not support. */
export class ModelFormatError extends SyntaxError {
  /** The class's name. */
  override readonly name = "ModelFormatError";
  /** The file's path or URL, as given. */
  readonly file: string;
  /** Byte offset in the file where the trouble lies, where it is known. */
  readonly offset: number | undefined;

  /** Made by parsers. @param file path or URL @param message the fault and its fix @param offset byte at which */
  constructor(file: string, message: string, offset?: number) {
    super(`Cannot read "${file}"${offset === undefined ? "" : ` at byte ${offset}`}: ${tidy(message)}`);
    this.file = file;
    this.offset = offset;
  }
}

/** One line of bearable length: messages quote names out of untrusted files. */
function tidy(message: string): string {
  const line = message.replaceAll(/\p{Cc}/gu, "\ufffd");
  return line.length <= 500 ? line : `${line.slice(0, 300)} … ${line.slice(-190)}`;
}

/** Something the user typed is wrong: commands print its one line and leave with exit code 2. */
export class UsageError extends Error {
  /** The class's name. */
  override readonly name = "UsageError";
}

/** The file or queue of a study cannot be reached or written now. Finished trials stay, and the run can be resumed. */
export class PlaceLostError extends UsageError {}

/** Type of a value, as an error message shows it: `null`, `number`, `Array`, `Float64Array`. */
function kindOf(value: unknown): string {
  return typeof value === "object" && value !== null
    ? value.constructor?.name ?? "object"
    : value === null
    ? "null"
    : typeof value;
}

/**
 * Checks that an argument is of its declared class: callers in plain JavaScript may pass anything.
 *
 * @param name The argument's name for the caller.
 * @param also Another acceptable value, in words.
 * @throws {TypeError} If it is no instance of the class.
 */
export function expectInstance<T>(
  name: string,
  value: unknown,
  type: abstract new (...args: never[]) => T,
  also = "",
): asserts value is T {
  if (value instanceof type) return;
  throw new TypeError(`Cannot use "${name}": found ${kindOf(value)}, expected ${type.name}${also}`);
}

/** A result of `typeof` that an argument may be required to have. */
export type TypeName = "function" | "string" | "object" | "number" | "boolean";

/** Checks that an argument has the JavaScript type. @throws {TypeError} If it has another. */
export function expectTypeOf(name: string, value: unknown, type: TypeName): void {
  if (typeof value === type && value !== null) return;
  throw new TypeError(`Cannot use "${name}": found ${kindOf(value)}, expected ${type}`);
}

/** Checks that an argument is an integer in a range. @throws {TypeError | RangeError} If it is no number, or another. */
export function expectInteger(name: string, value: unknown, least: number, most = Infinity): void {
  expectTypeOf(name, value, "number");
  if (Number.isSafeInteger(value) && value as number >= least && value as number <= most) return;
  const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new RangeError(`Cannot use "${name}": found ${value}, expected an integer ${range}`);
}

/** Checks that an argument is a number between two others. @throws {TypeError | RangeError} If it is none, or outside. */
export function expectBetween(name: string, value: unknown, low: number, high: number): void {
  expectTypeOf(name, value, "number");
  if (value as number > low && value as number < high) return;
  throw new RangeError(`Cannot use "${name}": found ${value}, expected a number in (${low}, ${high})`);
}

/** Checks that an argument is one of some names. @throws {TypeError | RangeError} If it is no text, or another name. */
export function expectName(name: string, value: unknown, names: readonly string[]): void {
  expectTypeOf(name, value, "string");
  if (names.includes(value as string)) return;
  const known = names.join(", ");
  throw new RangeError(`Cannot use "${name}": found ${JSON.stringify(value)}, expected one of ${known}`);
}

/**
 * Checks that options are an object, and that each of them is one that there is.
 *
 * @param known The known options by name, with a type's name where the value is checked here.
 * @throws {TypeError} If they are no object, or one is not known or of another type.
 */
export function expectOptions(
  options: unknown,
  known: { readonly [name: string]: TypeName | true | object },
): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TypeError(`Cannot use options: found ${kindOf(options)}, expected an object`);
  }
  for (const name in options) {
    if (!Object.hasOwn(known, name)) {
      const nearest = sayNearest(name, Object.keys(known));
      throw new TypeError(`Cannot use option "${name}": no such option${nearest}`);
    }
    const type = known[name], value = (options as { readonly [name: string]: unknown })[name];
    if (typeof type === "string" && value !== undefined) expectTypeOf(name, value, type);
  }
}
