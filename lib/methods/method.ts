/**
 * What a method may be, and what it must say. A method decides whose attention is skipped: by a rule, which scores
 * tokens for the filter's recurrence, or as a pruner of its own making. Everything that knows methods (flags, grids,
 * records, reports, tests) reads it from here.
 */
import type { Narrower, Option, OptionTable, Packed, Resolved } from "../filter/option.ts";
import type { FilterOptions } from "../filter/options.ts";
import type { Reads, Rule } from "../filter/rule.ts";
import type { FilterShape } from "../filter/sequence.ts";
import type { Pruner, PrunerContext } from "./pruner.ts";

/** How a method looks in plots and tables. */
export interface Looks {
  /** Its place in a legend, which gives colour and mark; default: after those that say theirs. */
  readonly place?: number;
  /** Whether it is shown, and compared with others, unasked. Default true. */
  readonly main?: boolean;
  /** Whether it stands for chance: drawn pale and last, and run over several seeds. */
  readonly chance?: true;
}

/** What every method says. */
export interface MethodInfo<Name extends string, O extends OptionTable> {
  /** What `--fusion` calls it. */
  readonly name: Name;
  /** What it goes by, in one line. */
  readonly help: string;
  /** Its own options; of two methods that have one of the same name, both mean the same by it. */
  readonly options?: O;
  /** Its looks. */
  readonly looks?: Looks;
}

/**
 * A rule: the filter's recurrence scores tokens by it.
 *
 * @typeParam O Its own options.
 */
export type RuleMethod<
  Name extends string,
  O extends OptionTable = None,
  Own = Packed<O>,
  Values = Resolved<O>,
> =
  & MethodInfo<Name, O>
  & Rule<Own>
  & {
    /** What it looks at under these options; default: similarities alone. */
    reads?(options: Values): readonly Reads[];
    /** Shared options of which it takes some values alone. */
    readonly narrows?: { readonly [option: string]: Narrower };
    /** Whether its inverse is shown beside it, as a control. */
    readonly inverted?: true;
    /** Rules that it claims to rank better than. */
    readonly rivals?: readonly string[];
  };

/**
 * A pruner of its own making, which has none of the filter's recurrence. Of the shared options it is given the layer
 * plan, the warm-up, `invert`, and what becomes of skipped tokens.
 *
 * @typeParam O Its own options.
 */
export interface PrunerMethod<Name extends string, O extends OptionTable = None, Values = Resolved<O>>
  extends MethodInfo<Name, O> {
  /** Whether it needs the whole sequence before its first decision. */
  readonly looksAhead: boolean;
  /** Binds it to a model's shape. */
  create(shape: FilterShape, options: FilterOptions & Values, context: PrunerContext): Pruner;
}

/** No options. */
export type None = Record<never, never>;
/** Any rule. */
export type AnyRule = RuleMethod<string, OptionTable, never, never>;
/** Any method. */
export type Method = AnyRule | PrunerMethod<string, OptionTable, never>;

/** Whether a method is a rule. */
export function isRule(method: Method): method is AnyRule {
  return !("create" in method);
}

/** Seed of whatever a method draws. */
export const SEED = { type: "seed", default: 0n, help: "seed of what is drawn" } as const satisfies Option;
