/**
 * What a method may be, and what it must provide. A method decides whose attention is skipped: by a rule, which scores
 * tokens for the filter's recurrence, or as a pruner of its own making. Everything that knows methods (flags, grids,
 * records, reports, tests) reads it from here.
 */
import type { Narrower, Option, OptionTable, Packed, Resolved } from "../filter/option.ts";
import type { FilterOptions, KeyState } from "../filter/options.ts";
import type { Reads, Rule } from "../filter/rule.ts";
import type { FilterShape } from "../filter/sequence.ts";
import type { LiveKeys, LiveToken } from "./eviction/live_keys.ts";
import type {
  Alteration,
  CalibratedModel,
  LayerAlteration,
  SeenPrompt,
} from "./model_pruning/calibration.ts";
import type { Pruner, PrunerContext } from "./pruner.ts";

export interface Looks {
  /** Its place in a legend, which gives colour and mark; default: after those that say theirs. */
  readonly place?: number;
  /** Whether it is shown, and compared with others, unasked. Default true. */
  readonly main?: boolean;
  /** Whether it is a random baseline: drawn pale and last, and run over several seeds. */
  readonly random?: true;
}

/** What a fair comparison must know of a method besides its losses. */
export interface Labels {
  /** Text that it is fitted on beforehand: none, or some, of the test text's kind or of another. */
  readonly calibration: "none" | "same domain" | "other";
  /** Whether a token's fate depends on the queries that come after it. */
  readonly queryAware: boolean;
  /** Where it is defined: "both" = prefill and decode alike. */
  readonly phase: "prefill" | "decode" | "both";
  /** Whether weights were trained for it. */
  readonly trained: boolean;
}

export interface MethodInfo<Name extends string, O extends OptionTable> {
  readonly name: Name;
  readonly help: string;
  /** Its own options; of two methods that have one of the same name, both mean the same by it. */
  readonly options?: O;
  readonly looks?: Looks;
  /** Its labels, where they are not those of most: no calibration, query-agnostic, prefill and decode, not trained. */
  readonly labels?: Partial<Labels>;
}

/** A rule: the filter's recurrence scores tokens by it. */
export type RuleMethod<
  Name extends string,
  O extends OptionTable = None,
  Own = Packed<O>,
  Values = Resolved<O>,
> =
  & MethodInfo<Name, O>
  & Rule<Own>
  & {
    /** What it looks at under these options; default: only similarities. */
    reads?(options: Values): readonly Reads[];
    /** Shared options of which it takes some values alone. */
    readonly narrows?: { readonly [option: string]: Narrower };
    /** Whether its inverse is shown next to it, as a control. */
    readonly inverted?: true;
    /** Rules that it claims to rank better than. */
    readonly comparedWith?: readonly string[];
  };

/**
 * A pruner of its own making, which has none of the filter's recurrence. Of the shared options it is given the layer
 * plan, the warm-up, `invert`, and what becomes of skipped tokens.
 */
export interface PrunerMethod<Name extends string, O extends OptionTable = None, Values = Resolved<O>>
  extends MethodInfo<Name, O> {
  /** Whether it needs the whole sequence before its first decision. */
  readonly nonCausal: boolean;
  create(shape: FilterShape, options: FilterOptions & Values, context: PrunerContext): Pruner;
}

/** A method that drops what scores lowest. */
export interface EvictionMethod<Name extends string = string> extends MethodInfo<Name, OptionTable> {
  readonly evicts: true;
  /** What it reads besides keys and values. */
  readonly reads: readonly ("query" | "attention")[];
  /** Keys that it takes, where the option `keyState` is not to say. */
  readonly keyState?: KeyState;
  /** Whether values that go are merged into those of the most similar keys that stay. */
  readonly merges?: true;
  /** Whether it needs what the whole sequence's queries will attend to. */
  readonly nonCausal?: true;
  /** What it remembers of all tokens, gone or not. */
  readonly memory?: {
    size(shape: FilterShape): number;
    absorb(memory: Float64Array, token: LiveToken, shape: FilterShape): void;
  };
  /**
   * How much each token is worth keeping, one row a KV head, or one for all; rows are averaged, and the lowest go.
   * Infinity = not to go yet.
   */
  score(live: LiveKeys): readonly Float64Array[];
}

export interface OfflineMethod<
  Name extends string = string,
  O extends OptionTable = None,
  Values = Resolved<O>,
> extends MethodInfo<Name, O> {
  readonly offline: true;
  /** What becomes of a model where `pruneRatio` of what the method prunes is to go. */
  alter(model: CalibratedModel, options: { readonly pruneRatio: number } & Values): Alteration;
}

/** A method that alters the model anew for each sequence, by what its warm-up has shown, for the tokens behind that. */
export interface PromptMethod<Name extends string = string> extends MethodInfo<Name, None> {
  readonly offline: "prompt";
  readonly names: readonly string[];
  /** What becomes of each layer where `pruneRatio` of what the method prunes is to go. */
  alter(seen: SeenPrompt, options: { readonly pruneRatio: number }): readonly LayerAlteration[];
}

export type AnyOffline = OfflineMethod<string, OptionTable, never> | PromptMethod;

export type None = Record<never, never>;
export type AnyRule = RuleMethod<string, OptionTable, never, never>;
export type Method = AnyRule | PrunerMethod<string, OptionTable, never> | EvictionMethod | AnyOffline;

export function isRule(method: Method): method is AnyRule {
  return !("create" in method || isEviction(method) || isOffline(method));
}

/** Whether a method goes through the cache again at every block start. */
export function isEviction(method: Method): method is EvictionMethod {
  return "evicts" in method;
}

export function isOffline(method: Method): method is AnyOffline {
  return "offline" in method;
}

export const SEED = { type: "seed", default: 0n, help: "seed of the random draws" } as const satisfies Option;
