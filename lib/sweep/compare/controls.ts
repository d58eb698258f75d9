/** Controls of a method: the random baselines and the oracle, each with the method's own options. */
import { PRESETS } from "../../methods/bind/option_table.ts";
import {
  effectiveKey,
  type MethodOptions,
  type ResolvedOptions,
  resolveOptions,
} from "../../methods/bind/options.ts";
import { isEviction, isOffline } from "../../methods/protocol/method.ts";
import { decidingMethods, filtersQueries } from "../../methods/bind/sides.ts";

/** Controls of methods: two random baselines, the oracle, and their own decisions shuffled in time. */
export const CONTROLS = ["random", "random-protected", "oracle", "shuffled"] as const;
export type Control = (typeof CONTROLS)[number];

/**
 * A control under the plan, the warm-up, the window, the substitute and the cache policy of the options. It filters
 * queries, or only keys and values where the options do. It is undefined for the oracle of keys and values, which does
 * not exist. It is also undefined where there is no order to shuffle: for controls, for evictions that rank the cache
 * again, and for methods that alter the model.
 */
export function controlFor(control: Control, options: ResolvedOptions): ResolvedOptions | undefined {
  if (control === "shuffled") return isShuffled(options) ? { ...options, shuffle: true } : undefined;
  const own = { ...options, fusion: control, invert: false, shuffle: false };
  if (filtersQueries(options)) {
    // The oracle chooses a whole sequence at once: it has no warm-up that ratios could follow from.
    return control === "oracle" && own.schedule === "allocated" ? { ...own, schedule: "uniform" } : own;
  }
  return control === "oracle" ? undefined : { ...own, kvFusion: control };
}

/** Whether options are those of a control: a random baseline, the oracle, or a random order decides first. */
export function isBaseline(
  options: Pick<ResolvedOptions, "fusion" | "kvFusion" | "pruneRatio" | "shuffle">,
): boolean {
  return options.shuffle || CONTROLS.some((control) => control === decidingMethods(options)[0]!.name);
}

/** Whether options have decisions whose order in time can be shuffled. */
function isShuffled(options: ResolvedOptions): boolean {
  return decidingMethods(options).every((method) =>
    !isEviction(method) && !isOffline(method) && !CONTROLS.some((control) => control === method.name)
  );
}

/** A key of the decisions of options, whatever the seed. */
export const seedlessKey = (options: ResolvedOptions): string => effectiveKey({ ...options, seed: 0n });

/** Labels by pair of ratios, once they were asked for. */
const labelsAtRatios = new Map<string, ReadonlyMap<string, string>>();

/** Labels of presets and of their controls at these ratios, by {@linkcode seedlessKey}. */
function labelsByOptions(pruneRatio: number, kvRatio: number): ReadonlyMap<string, string> {
  const labels = new Map<string, string>();
  for (const [preset, presetOptions] of Object.entries<MethodOptions>(PRESETS)) {
    // A preset with a side has no other ratio than that of keys and values.
    const ratios = "side" in presetOptions ? { kvRatio } : { kvRatio, pruneRatio };
    const options = resolveOptions({ ...presetOptions, ...ratios });
    labels.set(seedlessKey(options), preset);
    if (options.whole !== "none") {
      labels.set(seedlessKey({ ...options, whole: "none" }), `${preset}, whole none`);
    }
    for (const control of CONTROLS) {
      const controlOptions = controlFor(control, options);
      if (controlOptions !== undefined) labels.set(seedlessKey(controlOptions), `${control} for ${preset}`);
    }
  }
  return labels;
}

/**
 * Name of the preset that options are equal to, ratios and seed aside. It is `random for keys` for a control of one,
 * `retrieval, whole none` for one without its whole layers, and undefined for all others.
 */
export function presetName(options: ResolvedOptions): string | undefined {
  const { pruneRatio, kvRatio } = options;
  const labels = labelsAtRatios.getOrInsertComputed(
    `${pruneRatio} ${kvRatio}`,
    () => labelsByOptions(pruneRatio, kvRatio),
  );
  return labels.get(seedlessKey(options));
}
