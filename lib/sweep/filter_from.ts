/** Where a method begins to filter an item, instead of its warm-up: with a long warm-up, short items run dense. */
import type { Filter } from "../eval/task.ts";
import { createPruner } from "../methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../methods/bind/options.ts";
import type { Pruner, PrunerContext } from "../methods/protocol/pruner.ts";
import type { ModelConfig } from "../model/config/config.ts";

/** @internal Where a method begins to filter. */
export interface FilterFrom {
  /** As it was given: tokens, or a fraction of each context. */
  readonly text: string;
  /** The warm-up for a context of a length in tokens. */
  readonly warmup: (contextTokens: number) => number;
}

/**
 * Reads tokens, as in `16`, or a fraction of each context, as in `25%`.
 *
 * @throws {RangeError} If it is neither.
 */
export function readFilterFrom(text: string): FilterFrom {
  const [, number, percent] = text.match(/^(\d+(?:\.\d+)?)(%?)$/) ?? [];
  const value = Number(number);
  const fits = percent === "%" ? value <= 100 : Number.isSafeInteger(value) && !number?.includes(".");
  if (number === undefined || !fits) {
    throw new RangeError(
      `Cannot use --filter-from ${text}: expected tokens, as in 16, or a fraction of each context from 0% to 100%`,
    );
  }
  return { text, warmup: percent === "%" ? (tokens) => Math.round(value / 100 * tokens) : () => value };
}

/** A method on a model, with a warm-up of its own for each length of context where that is asked for. */
export function createFilter(
  config: ModelConfig,
  method: ResolvedOptions,
  from: FilterFrom | undefined,
  context: PrunerContext = {},
): Filter {
  const create = (options: ResolvedOptions) => createPruner("token-filtering", config, options, context);
  if (from === undefined) return create(method);
  const known = new Map<number, Pruner>();
  return (tokens) => {
    const warmup = from.warmup(tokens), pruner = known.get(warmup) ?? create({ ...method, warmup });
    known.set(warmup, pruner);
    return pruner;
  };
}
