/**
 * The kinds of methods, and the members of each. A method decides which tokens' attention is skipped: by a rule, which
 * scores tokens for the filter's recurrence, or by a pruner of its own. All code about methods (flags, grids, records,
 * reports, tests) reads it from here.
 */
import type { Spans } from "../../filter/blocks.ts";
import type { Narrower, Option, OptionTable, Packed, Resolved } from "../../filter/option.ts";
import type { FilterOptions, KeyState } from "../../filter/options.ts";
import type { Reads, Rule } from "../../filter/rule.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import type { LiveKeys, LiveToken } from "./live_keys.ts";
import type { Alteration, CalibratedModel, LayerAlteration, SeenPrompt } from "./calibration.ts";
import type { HeadProbe, Pruner, PrunerContext } from "./pruner.ts";
import type { Reading } from "./signals.ts";

export interface Looks {
  /** Its place in a legend, which gives colour and mark; default: after those that have a place. */
  readonly place?: number;
  /** Whether it is shown, and compared with others, unasked. Default true. */
  readonly main?: boolean;
  /** Whether it is a random baseline: drawn pale and last, and run over several seeds. */
  readonly random?: true;
}

/** Facts about a method that a fair comparison needs besides its losses. */
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

interface MethodInfo<Name extends string, O extends OptionTable> {
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
    /** Its inputs under these options; default: only similarities. */
    reads?(options: Values): readonly Reads[];
    /** Shared options of which it takes only some values. */
    readonly narrows?: { readonly [option: string]: Narrower };
    /** Whether its inverse is shown next to it, as a control. */
    readonly inverted?: true;
    /** Rules that it claims to rank better than. */
    readonly comparedWith?: readonly string[];
  };

/**
 * A method with a pruner of its own, without the filter's recurrence. It receives only some of the shared options: the
 * layer plan, the warm-up, `invert`, and the treatment of skipped tokens.
 */
export interface PrunerMethod<Name extends string, O extends OptionTable = None, Values = Resolved<O>>
  extends MethodInfo<Name, O> {
  /** Whether it needs the whole sequence before its first decision. */
  readonly nonCausal: boolean;
  create(shape: FilterShape, options: FilterOptions & Values, context: PrunerContext): Pruner;
}

/** A method that evicts the tokens of lowest score. */
export interface EvictionMethod<Name extends string = string> extends MethodInfo<Name, OptionTable> {
  readonly evicts: true;
  /** The signals that it reads, its own keys and values among them. */
  reads(spans: Spans): readonly Reading[];
  /** Form of the keys that it takes, where the option `keyState` does not decide that. */
  readonly keyState?: KeyState;
  /** Whether evicted values are merged into those of the most similar keys that stay. */
  readonly merges?: true;
  /** Whether it needs the attention of the whole sequence's queries. */
  readonly nonCausal?: true;
  /**
   * Where each KV head has rows of its own: the fraction of the equal budget that each of them keeps at least. It then reads
   * attention, and its keys, values and scores are those of one KV head.
   */
  readonly apart?: number;
  /** How it finds KV heads that keep every key and value, so that only the others evict. */
  readonly heads?: HeadProbe;
  /** Memory of all tokens, evicted ones included. */
  readonly memory?: {
    size(shape: FilterShape): number;
    absorb(memory: Float64Array, token: LiveToken, shape: FilterShape): void;
  };
  /**
   * How much each token is worth keeping, one row per KV head, or one for all. Rows are averaged, and the lowest are
   * evicted. Infinity = not to be evicted yet.
   */
  score(live: LiveKeys): readonly Float64Array[];
}

export interface OfflineMethod<
  Name extends string = string,
  O extends OptionTable = None,
  Values = Resolved<O>,
> extends MethodInfo<Name, O> {
  readonly offline: true;
  /** The change to a model when `pruneRatio` of the prunable parameters is removed. */
  alter(model: CalibratedModel, options: { readonly pruneRatio: number } & Values): Alteration;
}

/** A method that alters the model anew for each sequence, by statistics of its warm-up, for the tokens behind that. */
export interface PromptMethod<Name extends string = string> extends MethodInfo<Name, None> {
  readonly offline: "prompt";
  readonly names: readonly string[];
  /** The change to each layer when `pruneRatio` of the prunable parameters is removed. */
  alter(seen: SeenPrompt, options: { readonly pruneRatio: number }): readonly LayerAlteration[];
}

export type AnyOffline = OfflineMethod<string, OptionTable, never> | PromptMethod;

export type None = Record<never, never>;
export type AnyRule = RuleMethod<string, OptionTable, never, never>;
export type Method = AnyRule | PrunerMethod<string, OptionTable, never> | EvictionMethod | AnyOffline;

export function isRule(method: Method): method is AnyRule {
  return !("create" in method || isEviction(method) || isOffline(method));
}

/** Whether a method ranks the cached tokens at every block start. */
export function isEviction(method: Method): method is EvictionMethod {
  return "evicts" in method;
}

export function isOffline(method: Method): method is AnyOffline {
  return "offline" in method;
}

export const SEED = { type: "seed", default: 0n, help: "seed of the random draws" } as const satisfies Option;
