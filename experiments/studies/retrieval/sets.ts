/** The settings that measure.ts runs: texts in chunks and needles, each with a list of trials. */
import type { MethodOptions } from "../../../lib/methods/mod.ts";

interface Common {
  readonly model: string;
  readonly tokens: number;
  readonly ratio: number;
  /** Recent window, where it is not that of the preset. */
  readonly recent?: number;
  /** `RULE WHOLE [SEED]`, in the order in which they run; `dense` is the full model. */
  readonly trials: readonly string[];
}

/** The first tokens of a text, in chunks. */
export interface TextSet extends Common {
  readonly file: string;
  readonly fromCharacter?: number;
  readonly context: number;
  readonly items?: undefined;
}

/** Needles in texts of a length, of seed 0. */
export interface NeedleSet extends Common {
  readonly items: number;
  /** Whether tokens are evicted once, between prompt and answer, and not at every block start. */
  readonly once?: boolean;
}

/** The options of a trial: those of the preset `retrieval` with another rule, whole parts and seed. */
export function parseTrial(
  trial: string,
  { ratio, recent }: Pick<Common, "ratio" | "recent">,
): MethodOptions {
  const [kvFusion, whole, seed = "0"] = trial.split(" ");
  return {
    ...{ preset: "retrieval", kvFusion, whole, kvRatio: ratio, seed: Number(seed) },
    ...(recent !== undefined && { recent }),
  } as MethodOptions;
}

const seeds = (rule: string, whole: string, from = 0) =>
  Array.from({ length: 5 - from }, (_, i) => `${rule} ${whole} ${i + from}`);

const WIKITEXT = {
  model: "smollm2-135m",
  file: "wikitext2-test.txt",
  tokens: 32_768,
  context: 2048,
  ratio: 0.789,
};
/** Two of its three layers without a window are whole; of one KV head each, so that whole heads are the same. */
const GEMMA = {
  ...{ model: "gemma3-270m", ratio: 0.5, tokens: 16 * 2048 },
  trials: [
    ...["leave-one-out auto", "random auto", "key auto", "duo-attention none"],
    ...["leave-one-out none", "random none", "key none"],
    ...["variance none", "variance auto"],
  ],
};
const NEEDLES = { model: "smollm2-135m", items: 100, ratio: 0.75 };
/** Random eviction with each kind of whole parts, the first seed of all before further seeds; SnapKV at every block start. */
const NEEDLE_CONTROLS = [
  ...["random heads 0", "random auto 0", "random none 0"],
  ...[1, 2, 3, 4].flatMap((seed) => ["heads", "auto", "none"].map((whole) => `random ${whole} ${seed}`)),
  ...["dense", "snapkv none", "key heads", "leave-one-out heads", "key auto", "key none"],
];

/** The method, its control and its closest rival, at 20% of the cache. */
const FIFTH = {
  ...WIKITEXT,
  ratio: 0.9,
  trials: ["leave-one-out heads", "random heads", "duo-attention none"],
};

const ONCE = ["snapkv none", "random none 0", "leave-one-out heads", "random heads 0"];

export const SETS: { readonly [name: string]: TextSet | NeedleSet } = {
  controls_wikitext2: {
    ...WIKITEXT,
    trials: [
      ...["random heads 0", "leave-one-out heads", "key heads", ...seeds("random", "heads", 1)],
      ...[...seeds("random-protected", "heads"), ...seeds("random", "auto"), ...seeds("random", "none")],
      ...seeds("random-protected", "auto"),
      ...[
        "leave-one-out none",
        "key none",
        "duo-attention none",
        "snapkv none",
        "streaming none",
        "variance none",
      ],
      ...["leave-one-out auto", "key auto", "snapkv auto", "streaming auto", "variance auto"],
      ...[
        "streaming heads",
        "variance heads",
        "razor-attention none",
        "knorm none",
        "lagkv none",
        "keydiff-cache none",
      ],
      ...["tova none", "h2o none", "adakv none", "expected-attention none"],
    ],
  },
  controls_needle_512: {
    ...{ ...NEEDLES, tokens: 512, recent: 32 },
    trials: NEEDLE_CONTROLS,
  },
  controls_needle_2048: {
    ...{ ...NEEDLES, tokens: 2048 },
    trials: NEEDLE_CONTROLS,
  },
  /** Eviction as SnapKV's paper has it. */
  once_needle_512: {
    ...{ ...NEEDLES, tokens: 512, recent: 32, once: true },
    trials: ONCE,
  },
  once_needle_2048: {
    ...{ ...NEEDLES, tokens: 2048, once: true },
    trials: ONCE,
  },
  /** The second text of the study. */
  controls_messages: {
    ...{ ...WIKITEXT, file: "messages.txt" },
    trials: [
      ...["random heads 0", "leave-one-out heads", "key heads", "random none 0", "key none", "variance none"],
      ...[...seeds("random", "heads", 1), ...seeds("random-protected", "heads")],
      ...["random auto 0", "leave-one-out auto", "key auto", ...seeds("random", "auto", 1)],
      ...[...seeds("random", "none", 1), ...seeds("random-protected", "auto")],
    ],
  },
  /** DuoAttention on the second text, beside the rules of the same run. */
  rival_messages: {
    ...{ ...WIKITEXT, file: "messages.txt" },
    trials: ["leave-one-out heads", "random heads", "duo-attention none"],
  },
  fifth_wikitext2: FIFTH,
  fifth_messages: { ...FIFTH, file: "messages.txt" },
  fifth_manual: { ...FIFTH, file: "manual.txt" },
  gemma_wikitext2: { ...WIKITEXT, ...GEMMA },
  gemma_messages: { ...WIKITEXT, file: "messages.txt", ...GEMMA },
  /** All of WikiText-2's test split. */
  whole_wikitext2: {
    ...{ ...WIKITEXT, tokens: 148 * 2048 },
    trials: [
      "leave-one-out heads",
      "random heads",
      "key heads",
      "duo-attention none",
      "key none",
      "random none",
    ],
  },
  /** third_text.md is its plan. */
  third_text: {
    ...{ ...WIKITEXT, file: "manual.txt" },
    trials: [
      ...["leave-one-out heads", "random heads", "key heads", "duo-attention none"],
      ...["key none", "variance none", "random none", "leave-one-out auto", "leave-one-out none"],
      ...["random auto", "key auto", "variance heads", "variance auto"],
      ...["streaming none", "streaming heads", "streaming auto"],
    ],
  },
};
