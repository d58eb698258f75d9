/**
 * Methods made by hand: pruners that decide by code of your own, repeat recorded decisions, or skip nothing.
 *
 * ```ts
 * import { type Answer, definePruner, type LayerView, type SideSequence } from "@tokenfilter/tokenfilter/methods";
 * const everyOther = (count: number) => Uint8Array.from({ length: count }, (_, i) => i % 2);
 * const decide = ({ count }: LayerView): Answer => ({ keep: everyOther(count) });
 * const sequence: SideSequence = { decide, fork: () => sequence };
 * const pruner = definePruner({ name: "every-other", layers: [9], start: () => sequence });
 * console.assert(pruner.start().decide({ count: 4 } as never, 0).keep!.join() === "0,1,0,1");
 * ```
 *
 * {@linkcode createCustomRule} of the main entry is the short way to a rule of one's own.
 * @module
 */
export {
  type Answer,
  createDense,
  createReplay,
  type CustomRuleOptions,
  definePruner,
  type LayerView,
  type PrunerContext,
  type SideSequence,
} from "../methods/mod.ts";
