/** The methods that a comparison supports by name, and the controls that come with them. */
import {
  EVICTIONS,
  KEY_RULES,
  type KeyRuleName,
  type MethodName,
  methodOf,
  METHODS,
  OFFLINE,
  ownRules,
} from "../../methods/list.ts";
import { sayNearest } from "../../nearest.ts";
import { isEviction, isRule, type Method } from "../../methods/protocol/method.ts";
import { PRESETS } from "../../methods/bind/option_table.ts";
import {
  effectiveKey,
  effectiveOptions,
  type MethodOptions,
  type ResolvedOptions,
  resolveOptions,
} from "../../methods/bind/options.ts";
import { controlFor, CONTROLS, seedlessKey } from "./controls.ts";

/** @internal A method with a name; methods of one name differ in only the seed, and count as one. */
export interface NamedMethod {
  /** Its name in tables and plots. */
  readonly name: string;
  readonly options: ResolvedOptions;
  /** The requested ratio, where a comparison has several; its name then ends with it. */
  readonly asked?: number;
  /** Names of further methods that are identical at the shared warm-up and window. */
  readonly same?: readonly string[];
}

/** Options of each method that a comparison supports: the main ones, inverses that serve as controls, and presets. */
const COMPARED: { readonly [name: string]: MethodOptions } = Object.fromEntries([
  ...(METHODS as readonly Method[]).filter(({ looks }) => looks?.main ?? true).flatMap((method) => {
    const fusion = method.name as NonNullable<MethodOptions["fusion"]>;
    return [
      [fusion, { fusion }],
      ...(isRule(method) && method.inverted ? [[`${fusion} inverted`, { fusion, invert: true }]] : []),
      ...presetsOf(fusion),
    ];
  }),
  ...presetsOf(undefined),
]);

/** The presets with a method; those of a rule of only keys and values have none. */
function presetsOf(fusion: string | undefined): [string, MethodOptions][] {
  return Object.entries<MethodOptions>(PRESETS).filter(([, options]) => options.fusion === fusion);
}

/** Names of the methods that are compared unasked. */
export const COMPARED_METHODS: readonly string[] = Object.keys(COMPARED);

/** Methods that are compared only if they are named: minor rules, and evictions of keys and values. */
const OTHERS: { readonly [name: string]: MethodOptions } = Object.fromEntries(
  [
    ...[...METHODS, ...OFFLINE].filter(({ name }) => !Object.hasOwn(COMPARED, name)).map((
      { name },
    ) => [name, { fusion: name }]),
    ["shuffled", { shuffle: true }],
    ...[...KEY_RULES, ...EVICTIONS].map(({ name }) => [name, { side: "key", kvFusion: name }]),
  ],
);

const KNOWN: ReadonlyMap<string, MethodOptions> = new Map(Object.entries({ ...COMPARED, ...OTHERS }));

export const OTHER_METHODS: readonly string[] = Object.keys(OTHERS);

/**
 * The methods of a comparison, with all else alike: one warm-up and one recent window, those of `base`, else the widest
 * that one of them sets. A preset keeps its other options. If methods are then identical, only the first stays. Each
 * control that is named comes with the options of every method that is compared with it: next to `keys` and `mean`,
 * `random` comes twice, as `random for keys` and `random`.
 *
 * @param names Some of {@linkcode COMPARED_METHODS} and {@linkcode OTHER_METHODS}.
 * @param base Options that all share, such as `pruneRatio`; not `fusion`, `invert` or `preset`.
 * @param seeds Seeds of random baselines, from `base.seed` on.
 * @throws {RangeError} If a name is unknown, there are no seeds, or a method does not define the options.
 *
 * @example
 * ```ts
 * import { comparedMethods } from "@tokenfilter/tokenfilter/sweep";
 * const methods = comparedMethods(["keys", "mean", "random"], { pruneRatio: 0.3 }, 5);
 * console.assert(methods.length === 12 && methods.every(({ options }) => options.recent === 32));
 * ```
 */
export function comparedMethods(
  names: readonly string[],
  base: ComparedBase = {},
  seeds: number = 5,
): NamedMethod[] {
  if (!(Number.isInteger(seeds) && seeds >= 1)) {
    throw new RangeError(`Cannot compare over ${seeds} seeds: expected a positive integer`);
  }
  const chosen = chooseMethods(names, base);
  return chosen.flatMap((method) => {
    const control = CONTROLS.find((control) => control === method.name);
    if (control === undefined) return [method];
    const count = control === "shuffled" || methodOf(control).looks?.random ? seeds : 1;
    const bound = [method, ...chosen].map(({ name, options }) => ({
      name,
      options: controlFor(control, options),
    }));
    return [...Map.groupBy(bound, ({ options }) => options && seedlessKey(options)).values()].flatMap(
      (alike) => {
        const { name: user, options } = alike[0]!,
          name = user === control ? control : `${control} for ${user}`;
        // One that no named method is compared with comes only where only controls are named.
        const isIdle = alike.every(({ name }) => name === control) &&
          chosen.some(({ name }) => !isControl(name));
        if (options === undefined || isIdle) return [];
        return Array.from(
          { length: count },
          (_, i) => ({ name, options: { ...options, seed: BigInt.asUintN(64, options.seed + BigInt(i)) } }),
        );
      },
    );
  });
}

/** @internal Options that all compared methods share. */
export type ComparedBase = Omit<MethodOptions, "fusion" | "invert" | "preset">;

/** The methods that are named, all at one warm-up and window, each once. */
function chooseMethods(names: readonly string[], base: ComparedBase): NamedMethod[] {
  const resolve = (spans: MethodOptions) =>
    [...new Set(names)].map((name): NamedMethod => {
      const own = ownRules().find(({ rule }) => rule.name === name)?.rule;
      const set = own === undefined
        ? KNOWN.get(name)
        : isEviction(own)
        ? { side: "key", kvFusion: name as KeyRuleName } as const
        : { fusion: name as MethodName };
      if (set === undefined) {
        const known = [...KNOWN.keys()];
        throw new RangeError(
          `Cannot compare "${name}": expected some of ${known.join(", ")}${sayNearest(name, known)}`,
        );
      }
      // A preset that sets the filtered sides keeps its setting.
      const { side: _, cacheSkipped: __, kvFusion: ___, ...rest } = base;
      const shared = "side" in set || "kvFusion" in set ? rest : base;
      return { name, options: resolveOptions({ ...shared, ...set, ...spans }) };
    });
  const alone = resolve({}), users = alone.filter(({ name }) => !isControl(name));
  const widest: { warmup?: number; recent?: number } = {};
  for (const span of ["warmup", "recent"] as const) {
    const brought = (users.length > 0 ? users : alone).flatMap(({ options }) =>
      effectiveOptions(options)[span] ?? []
    );
    const own = base[span] ?? (brought.length > 0 ? Math.max(...brought) : undefined);
    if (own !== undefined) widest[span] = own;
  }
  const shared = resolve(widest);
  const alike = Map.groupBy(shared, ({ name, options }) => isControl(name) ? name : effectiveKey(options));
  return [...alike.values()].map(([first, ...others]) =>
    others.length === 0 ? first! : { ...first!, same: others.map(({ name }) => name) }
  );
}

const isControl = (name: string) => CONTROLS.some((control) => control === name);

/**
 * The methods of a comparison at several ratios, each on the side that it filters.
 * A name ends with its ratio: `paper at 0.3`.
 *
 * @param ratios Pruning or compression ratios, in (0, 1).
 * @throws {RangeError} As {@linkcode comparedMethods}, or if a ratio is named twice.
 */
export function comparedAtRatios(
  names: readonly string[],
  base: ComparedBase,
  seeds: number,
  ratios: readonly number[],
): NamedMethod[] {
  if (new Set(ratios).size !== ratios.length) {
    throw new RangeError(`Cannot compare at ratios ${ratios.join(", ")}: expected different ones`);
  }
  return ratios.flatMap((asked) =>
    comparedMethods(names, { ...base, pruneRatio: asked, kvRatio: asked } as ComparedBase, seeds)
      .map(({ name, ...own }) => ({ ...own, name: `${name} at ${asked}`, asked }))
  );
}
