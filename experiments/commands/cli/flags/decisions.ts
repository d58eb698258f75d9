/** Decisions of methods, to be kept: `--decisions FILE`. */
import { UsageError } from "../../../../lib/errors.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import { methodOf } from "../../../../lib/methods/list.ts";
import { isOffline } from "../../../../lib/methods/protocol/method.ts";
import { expectWritableFile } from "../files.ts";
import { type Flags, text, under } from "./flag.ts";
import { type FlagValues, textOf } from "./parse.ts";

/** The flag of commands that run methods. */
export const DECISIONS = under("Results", {
  decisions: text(
    "FILE.parquet|FILE.json",
    "keep the decisions of every method: one row per token, layer and KV head, with its score and when it was evicted",
  ),
}) satisfies Flags;

/**
 * Reads `--decisions`.
 *
 * @throws {UsageError} If the file's name has another ending, it cannot be written, or a method decides on no token.
 */
export function readDecisionsFlag(
  values: FlagValues,
  methods: readonly Pick<ResolvedOptions, "fusion">[],
): string | undefined {
  const path = textOf(values, "decisions");
  if (path === undefined) return undefined;
  if (!/\.(parquet|json)$/.test(path)) {
    throw new UsageError(`Cannot use --decisions ${path}: expected a name that ends in .parquet or .json`);
  }
  if (methods.length === 0) throw new UsageError("Cannot use --decisions: a dense run has no decisions");
  const offline = methods.find(({ fusion }) => isOffline(methodOf(fusion)));
  if (offline !== undefined) {
    throw new UsageError(
      `Cannot use --decisions with the method ${offline.fusion}: it alters the model, and decides on no token`,
    );
  }
  expectWritableFile(path);
  return path;
}
