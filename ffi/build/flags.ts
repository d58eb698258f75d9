/** Flags of the build commands. */
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { UsageError } from "../../lib/errors.ts";

export const FLAGS = {
  force: { type: "boolean" },
  cuda: { type: "boolean" },
  arch: { type: "string" },
  level: { type: "string" },
  all: { type: "boolean" },
} as const;

/** Reads flags. @throws {UsageError} If one is not known, or lacks its value. */
export function readFlags<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
): ReturnType<typeof parseArgs<{ options: Options }>>["values"] {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const known = Object.keys(options).map((name) => `--${name}`).join(", ");
    throw new UsageError(`Cannot build: ${error.message}; expected some of ${known}`, { cause: error });
  }
}
