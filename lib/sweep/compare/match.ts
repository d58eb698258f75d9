/** Equal budgets: each method's ratio at which it retains as much as a random baseline at the requested ratio. */
import { UsageError } from "../../errors.ts";
import { BUDGET_TOLERANCE, HIGHEST_RATIO, reachBudget } from "../../eval/budget.ts";
import { requestedRatio, type ResolvedOptions } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import { type BudgetName, BUDGETS, type Retained } from "../budgets.ts";
import type { NamedMethod } from "./compared_methods.ts";
import { controlFor, isBaseline } from "./controls.ts";

/** Budgets that methods may be matched on. */
const MATCHED = { cache: "cache", pairs: "pairs", flops: "attentionFlops" } as const;

/** The budget that methods are matched on. `own`: rows where a method only evicts, pairs where it skips queries. */
export type Match = keyof typeof MATCHED | "own";
/** A budget that is asked for: the retained fraction of the full model's. */
export interface Budgeted {
  /** Bytes of keys and values, pairs of a query and a key, or operations of attention. */
  readonly match: "cache" | "pairs" | "flops";
  /** In (0, 1). */
  readonly target: number;
}

export const MATCHES = Object.keys(MATCHED) as (keyof typeof MATCHED)[];

/** Budgets that are further apart are not equal: a point. */
export const EQUAL = 2 * BUDGET_TOLERANCE;

/** Seeds of a method, at the ratio that was found. */
interface MatchedMethods {
  readonly methods: readonly NamedMethod[];
  readonly matched: Matched;
}

/** @internal How a method's ratio was found. */
export interface Matched {
  readonly budget: BudgetName;
  /** The ratio that was asked for; left out where the budget itself was. */
  readonly asked?: number;
  /** The ratio that it ran at. */
  readonly ratio: number;
  /** The budget, as a fraction of the full model's: what the random baseline spends at the ratio asked for, or the one asked for. */
  readonly target: number;
  /** Whether the method can spend as much; if not, it ran at the ratio asked for. */
  readonly reached: boolean;
}

/** The budget that a method is made to save: rows where it only evicts, else pairs. */
export function ownBudget(options: ResolvedOptions): BudgetName {
  return filtersQueries(options) ? "pairs" : "cache";
}

/**
 * Finds the ratio at which a method has a budget, by measured runs.
 *
 * @param spend The retained fractions at a ratio; undefined where the model cannot have it.
 * @throws {UsageError} If the method aims at no ratio, or cannot have the budget: the least that it can have is named.
 */
export async function findBudget(
  name: string,
  options: ResolvedOptions,
  { match, target }: Budgeted,
  spend: (options: ResolvedOptions) => Promise<Retained | undefined>,
): Promise<Matched> {
  const budget = MATCHED[match], { label } = BUDGETS[budget], asked = ratioOf(options);
  const refuse = (found: string, cure: string) =>
    new UsageError(`Cannot give "${name}" ${show(target)} of ${label}: ${found}, expected ${cure}`);
  if (asked === undefined || asked === 0) {
    throw refuse("it aims at no ratio", "a method that does (leave it out)");
  }
  const found = await reachBudget(
    target,
    async (ratio) => (await spend(withRatio(options, ratio)))?.[budget],
  );
  if (found.reached) return { budget, ratio: found.ratio, target, reached: true };
  if (Number.isNaN(found.retained)) {
    throw refuse("the model cannot have it at any ratio tried", "another method");
  }
  throw found.least > target
    ? refuse(
      `found ${show(found.least)} as the least, at ratios up to ${HIGHEST_RATIO}`,
      `at least ${match}=${ceil(found.least)}`,
    )
    : refuse(
      `found ${show(found.retained)} as the nearest`,
      `${match}=${found.retained.toFixed(3)}, or a longer text`,
    );
}

const show = (fraction: number) => `${(100 * fraction).toFixed(1)}%`;
const ceil = (fraction: number) => (Math.ceil(1000 * fraction) / 1000).toFixed(3);

/** The ratio that a method is asked for; undefined where nothing aims at one: it cannot be matched. */
function ratioOf(options: ResolvedOptions): number | undefined {
  if (options.schedule === "explicit" || requestedRatio(options) === null) return undefined;
  return filtersQueries(options) ? options.pruneRatio : options.kvRatio;
}

/** @internal The same method at another ratio; where it filters both sides, the ratio of keys and values follows in proportion. */
export function withRatio(options: ResolvedOptions, ratio: number): ResolvedOptions {
  if (!filtersQueries(options)) return { ...options, kvRatio: ratio };
  const kvRatio = Math.min(HIGHEST_RATIO, options.kvRatio * ratio / options.pruneRatio);
  return { ...options, pruneRatio: ratio, kvRatio };
}

/** Most ratios that are tried for a method. */
const TRIES = 6;

/**
 * Finds the ratios of methods. At each requested ratio and budget, the first method named sets the target: the retained
 * fraction of its random baseline at that ratio.
 *
 * @param methods Methods of one name are seeds of one, at the ratio of the first.
 * @param spend The retained fractions of a method; undefined where the model cannot have it.
 * @param takeTurns Waits for the searches of all methods, which run side by side.
 * @param budgeted The target, where a fraction is asked for.
 * @returns For each name that can be matched, its match and its methods at their ratio.
 */
export async function matchMethods(
  methods: readonly NamedMethod[],
  match: Match,
  spend: (method: NamedMethod) => Promise<Retained | undefined>,
  takeTurns: <V>(work: readonly Promise<V>[]) => Promise<V[]> = (work) => Promise.all(work),
  budgeted?: Budgeted,
): Promise<Map<string, MatchedMethods>> {
  const rankOf = (group: readonly NamedMethod[]) => Number(isBaseline(group[0]!.options));
  const groups = [...Map.groupBy(methods, ({ name }) => name).values()], targets = new Map<string, number>();
  const aimed: Parameters<typeof search>[] = [];
  if (budgeted !== undefined) {
    const all = groups.map(async (group): Promise<[string, MatchedMethods]> => {
      const [first] = group as [NamedMethod];
      const matched = await findBudget(
        first.name,
        first.options,
        budgeted,
        (options) => spend({ ...first, options }),
      );
      const own = group.map((seed) => ({ ...seed, options: withRatio(seed.options, matched.ratio) }));
      return [first.name, { methods: own, matched }];
    });
    return new Map(await takeTurns(all));
  }
  const search = async (group: readonly NamedMethod[], asked: number, budget: BudgetName, target: number) => {
    const [first] = group as [NamedMethod], { options } = first;
    const { reached, ratio: found } = await reachBudget(
      target,
      async (ratio) => (await spend({ ...first, options: withRatio(options, ratio) }))?.[budget],
      { first: asked, most: TRIES },
    );
    const ratio = reached ? found : asked, matched = { budget, asked, ratio, target, reached };
    const own = ratio === asked
      ? group
      : group.map((seed) => ({ ...seed, options: withRatio(seed.options, ratio) }));
    return [first.name, { methods: own, matched }] satisfies [string, MatchedMethods];
  };
  // Those that set the target come first: not controls, where there is anything else.
  for (const group of groups.toSorted((a, b) => rankOf(a) - rankOf(b))) {
    const [first] = group as [NamedMethod], { options } = first, asked = ratioOf(options);
    if (asked === undefined || asked === 0) continue;
    const budget = match === "own" ? ownBudget(options) : MATCHED[match], key = `${budget} ${first.asked}`;
    if (!targets.has(key)) {
      const random = { ...first, name: "random", options: controlFor("random", options)! };
      const target = (await spend(random))?.[budget];
      if (target === undefined) continue;
      targets.set(key, target);
    }
    aimed.push([group, asked, budget, targets.get(key)!]);
  }
  return new Map(await takeTurns(aimed.map((one) => search(...one))));
}
