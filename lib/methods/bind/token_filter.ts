/** Token Filtering without a model: a rule and options bound to a model's shape. */
import { expectInteger } from "../../errors.ts";
import type { LayerSpec } from "../../filter/layer.ts";
import { packValue, wrongOption } from "../../filter/option.ts";
import type { Rule } from "../../filter/rule.ts";
import type { SideName } from "../../filter/schedule.ts";
import {
  createSpecs,
  type FilterBackend,
  type FilterOps,
  filterOps,
  FilterSequence,
  type FilterShape,
} from "../../filter/sequence.ts";
import { type MethodName, methodOf, RULES } from "../list.ts";
import { type AnyRule, isRule } from "../protocol/method.ts";
import { OPTIONS } from "./option_table.ts";
import { readsOf, type ResolvedOptions, resolveOptions, type TokenFilterOptions } from "./options.ts";
import { filtersQueries, keySideOptions } from "./sides.ts";
import { bindRule, learns } from "./substitute.ts";

/** @internal A rule's recurrence, bound to a model's shape. */
export class BoundFilter {
  readonly shape: FilterShape;
  readonly specs: readonly LayerSpec[];
  readonly ops: FilterOps;

  /** @param specs One specification per filtered layer, in the order of `layers`. */
  constructor(shape: FilterShape, specs: readonly LayerSpec[], ops: FilterOps) {
    this.shape = shape;
    this.specs = specs;
    this.ops = ops;
  }

  /** 0-based indices of the filtered layers, ascending. */
  get layers(): readonly number[] {
    return this.specs.map((spec) => spec.layer);
  }

  /** Starts a sequence; `chunk` is its 0-based index in a text that is scored in chunks (`random` reads it). */
  start({ chunk = 0 }: { readonly chunk?: number } = {}): FilterSequence {
    expectInteger("chunk", chunk, 0, 0x7fffffff);
    const specs = chunk === 0 ? this.specs : this.specs.map((spec) => ({ ...spec, chunk }));
    return new FilterSequence(this.shape, specs, this.ops);
  }
}

/**
 * Binds a rule, by default the one that the options name, to a model's shape, on one side.
 *
 * @throws {RangeError} If a size is out of range, the options name no rule, or the schedule is unreachable.
 */
export function bindFilter(
  shape: FilterShape,
  options: ResolvedOptions,
  side: SideName,
  backend?: FilterBackend,
  rule?: AnyRule,
): BoundFilter {
  const decided = side === "queries" ? options : keySideOptions(options);
  const named = side === "queries" ? options.fusion : options.kvFusion;
  const own = bindRule(rule ?? ruleOf(named as MethodName), decided, backend);
  // Kernels without local features refuse them, so a rule that does not learn is bound without them.
  const features = decided.features.filter((group) => group !== "local" || learns(own));
  const packed = Object.fromEntries(
    Object.entries({ ...decided, features }).map(([name, value]) => [name, packValue(OPTIONS[name]!, value)]),
  );
  const specs = createSpecs(shape, own as Rule, readsOf(own, decided), packed as never, side);
  return new BoundFilter(shape, specs, filterOps(own, backend));
}

/**
 * Token Filtering, bound to a model's shape: which layers are filtered, and how. Where options filter only keys and
 * values (`side: "key"`), its decisions are about these: 1 = they stay, 0 = they are evicted at the next block start
 * beyond the recent window.
 *
 * The caller implements the recent window: a skipped token's key and value stay visible to the next `options.recent`
 * tokens (16 by default), and are dropped then. A query at position t attends to the keys of kept tokens, to those of
 * skipped ones from position t - `options.recent` on, and to its own. A caller that drops them at once runs another
 * method, `recent: 0`. docs/reference/library.md has a loop that does it.
 *
 * @example
 * ```ts
 * import { TokenFilter } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
 * const filter = new TokenFilter(shape, { pruneRatio: 0.25, tail: 0.5, warmup: 1 });
 * console.assert(filter.layers.join() === "2,3" && filter.specs[0]!.skipRatio === 0.5);
 *
 * const sequence = filter.start();
 * const first = sequence.step(2, new Float32Array([1, 0]), new Float32Array([0, 1]));
 * console.assert(first.keep[0] === 1 && Number.isNaN(first.redundancy[0])); // nothing to compare with yet
 * const second = sequence.step(2, new Float32Array([2, 0]), new Float32Array([0, 3]));
 * console.assert(second.redundancy[0] === 1); // keys and values point where the first ones did
 * ```
 */
export class TokenFilter extends BoundFilter {
  /** All options, defaults filled in. */
  readonly options: ResolvedOptions;

  /**
   * Binds options to a model's shape.
   *
   * @param shape The model's sizes.
   * @param options Everything may be left out.
   * @param backend Computes the recurrence, where its kernels have the rule; default: plain TypeScript.
   * @throws {TypeError} If an option is unknown or of the wrong type.
   * @throws {RangeError} If a size or an option is out of range, or the schedule is unreachable.
   */
  constructor(shape: FilterShape, options: TokenFilterOptions = {}, backend?: FilterBackend) {
    const resolved = resolveOptions(options), side = filtersQueries(resolved) ? "queries" : "keys";
    const { specs, ops } = bindFilter(shape, resolved, side, backend);
    super(shape, specs, ops);
    this.options = resolved;
  }
}

/** The rule that options name. @throws {RangeError} If they name a method that is none. */
function ruleOf(fusion: MethodName): AnyRule {
  const method = methodOf(fusion);
  if (isRule(method)) return method;
  const names = RULES.map(({ name }) => name).join(", ");
  throw wrongOption("fusion", `"${fusion}"`, `one of ${names}`);
}
