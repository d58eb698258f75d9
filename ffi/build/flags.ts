/** Flags of the build commands, read with Deno's own modules: a build needs no download. */
import { parseArgs } from "node:util";
import { UsageError } from "../../lib/errors.ts";

/** A flag, and its help. */
interface BuildFlag {
  readonly type: "boolean" | "string";
  readonly short?: string;
  /** Placeholder of its value in the help. */
  readonly value?: string;
  readonly help: string;
}
type FlagTable = { readonly [name: string]: BuildFlag };

export const FLAGS = {
  level: {
    type: "string",
    value: "NAME",
    help: "instruction-set level of the CPU library: base, avx2, avx512 (the best of this machine)",
  },
  all: { type: "boolean", help: "every level of this architecture instead" },
  cuda: { type: "boolean", help: "the CUDA library too; nvcc is fetched with pip where there is none" },
  arch: { type: "string", value: "A,B", help: "of these architectures, such as 80,90a (all); with --cuda" },
  force: { type: "boolean", help: "build again, also where the cache holds the result" },
  out: {
    type: "string",
    value: "DIR",
    help: "copy it there as libtokenfilter_cpu, with the C header and the examples for other engines",
  },
} as const satisfies FlagTable;

const HELP = { help: { type: "boolean", short: "h", help: "print this" } } as const satisfies FlagTable;

/** The text of `--help`. @param command The command line that it describes. */
export function describeFlags(command: string, flags: FlagTable): string {
  const lines = Object.entries({ ...flags, ...HELP }).map(([name, { value, help }]: [string, BuildFlag]) =>
    `  --${name}${value === undefined ? "" : ` ${value}`}\n      ${help}`
  );
  return `Usage: ${command} [flags]

Builds the native library into the user's cache (TOKENFILTER_CACHE), where programs find it, and fetches an OpenBLAS for it.
Takes what the cache holds of these sources. Needs g++ or clang++ (CXX names another compiler).

${lines.join("\n")}`;
}

/** Reads flags. @throws {UsageError} If one is not known, or lacks its value. */
export function readFlags<const Flags extends FlagTable>(
  args: readonly string[],
  flags: Flags,
): ReturnType<typeof parseArgs<{ options: Flags & typeof HELP }>>["values"] {
  try {
    return parseArgs({ args: [...args], options: { ...flags, ...HELP } }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const known = Object.keys(flags).map((name) => `--${name}`).join(", ");
    throw new UsageError(
      `Cannot build: ${error.message}; expected some of ${known} (see --help)`,
      { cause: error },
    );
  }
}
