/**
 * The `learned` rule: a ridge regression per filtered layer and sequence. It predicts how much the attention will add,
 * y = ln((norm(o)+1e-6)/(norm(x)+1e-6)), from features that are known before the attention. It learns from the tokens
 * that were kept. Tokens are decided in blocks, each with the fit on all earlier blocks.
 */
import type { OptionTable, Others, Packed, Resolved } from "../../filter/option.ts";
import type { LayerSpec, LayerState } from "../../filter/layer.ts";
import { NORM_EPS } from "../../filter/outcome.ts";
import type { Reads, RuleToken } from "../../filter/rule.ts";
import { norm } from "../../filter/similarity.ts";
import { SLOT } from "../../filter/slots.ts";
import { projectionSigns } from "../../math/random.ts";
import { type FitLayout, layOut, openFit } from "./learned_fit.ts";
import { countLocalFeatures, localSize, nameLocalFeatures, takeLocal } from "./local_features.ts";
import { type RuleMethod, SEED } from "../protocol/method.ts";

const FEATURE_GROUPS = ["similarity", "norm", "projection", "query", "local"] as const;
type FeatureGroup = (typeof FEATURE_GROUPS)[number];

const projects = ({ features }: Others): boolean => (features as readonly string[]).includes("projection");

/** A name of its own: declarations of a package lose a spread within an object. */
const PROJECTION_SEED = { ...SEED, matters: projects } as const;

const options = {
  ridge: { type: "number", default: 1, range: "(0, 1e12]", help: "ridge of the regression" },
  projections: {
    type: "integer",
    default: 16,
    range: "[0, 256]", // their hash has 8 bits for their number
    matters: projects,
    help: "number of random projections",
  },
  features: {
    type: "names",
    names: FEATURE_GROUPS,
    default: ["similarity", "norm", "projection"],
    help: "some of {names}",
    note: "local too with that substitute",
  },
  seed: PROJECTION_SEED,
} as const satisfies OptionTable;

export type LearnedSpec = LayerSpec & Packed<typeof options>;

function has({ features }: LearnedSpec, group: FeatureGroup): boolean {
  return ((features >> FEATURE_GROUPS.indexOf(group)) & 1) === 1;
}

export function nameFeatures(spec: LearnedSpec): string[] {
  const names: { readonly [Group in FeatureGroup]: readonly string[] } = {
    similarity: ["muK", "muV", "sdK", "sdV"],
    norm: ["ln norm(k)", "ln norm(v)", "ln norm(x)"],
    projection: Array.from({ length: spec.projections }, (_, j) => `projection ${j}`),
    query: ["ln norm(q)"],
    local: nameLocalFeatures(spec.numHeads),
  };
  return [...FEATURE_GROUPS.filter((group) => has(spec, group)).flatMap((group) => names[group]), "bias"];
}

/** Where the parts of the state's `learned` begin. */
export function learnedLayout(spec: LayerSpec): FitLayout {
  const own = spec as LearnedSpec;
  return layOut(nameFeatures(own).length, own);
}

/** Memory of the `local` features: it is stored behind the fit. */
function localMemory(spec: LayerSpec, { learned }: LayerState): Float64Array {
  return learned.subarray(learnedLayout(spec).length);
}

const fitOf = (spec: LayerSpec, state: LayerState) =>
  openFit(spec as LearnedSpec, state, learnedLayout(spec));

/** Random signs by spec: they cost a hash an entry, and every sequence uses the same. */
const signsOf = new WeakMap<LayerSpec, Int8Array<ArrayBuffer>>();

function projectionsOf(spec: LearnedSpec): Int8Array<ArrayBuffer> {
  const signs = signsOf.get(spec) ??
    projectionSigns(spec.seed, spec.layer, spec.hiddenSize, spec.projections);
  signsOf.set(spec, signs);
  return signs;
}

const logNorm = (x: Float32Array) => Math.log(norm(x, 0, x.length) + NORM_EPS);

/** Writes a token's features; moments that it does not have count as 0. */
function fill(out: Float64Array, spec: LearnedSpec, token: RuleToken, memory: Float64Array): void {
  let at = 0;
  if (has(spec, "similarity")) {
    for (const x of [token.muK, token.muV, Math.sqrt(token.varK), Math.sqrt(token.varV)]) {
      out[at++] = token.position === 0 ? 0 : x;
    }
  }
  if (has(spec, "norm")) {
    for (const x of [token.key, token.value, token.residual]) out[at++] = logNorm(x);
  }
  if (has(spec, "projection")) {
    const signs = projectionsOf(spec), { normed } = token, count = spec.projections;
    const projected = out.subarray(at, at + count).fill(0);
    for (let a = 0; a < normed.length; a++) {
      for (let j = 0; j < count; j++) projected[j]! += normed[a]! * signs[a * count + j]!;
    }
    for (let j = 0; j < count; j++) projected[j]! /= Math.sqrt(normed.length);
    at += count;
  }
  if (has(spec, "query")) out[at++] = logNorm(token.queries);
  if (has(spec, "local")) {
    takeLocal(spec, token, memory, out.subarray(at));
    at += countLocalFeatures(spec.numHeads);
  }
  out[at] = 1;
}

/** Minus the predicted outcome: little attention expected = redundant. */
export const learned: RuleMethod<"learned", typeof options> = {
  name: "learned",
  help: "online ridge regression of how much the attention will add",
  native: 9,
  options,
  reads({ features }: Resolved<typeof options>): readonly Reads[] {
    const also = (group: FeatureGroup, what: Reads) => features.includes(group) ? [what] : [];
    return [
      ...["key", "value", "residual", "normed", "outputs"] as const,
      ...also("similarity", "similarity"),
      ...(features.includes("query") || features.includes("local") ? ["queries" as const] : []),
    ];
  },
  narrows: {
    warmup: { range: "[8, 65536]" },
    threshold: { names: ["budget", "window"] },
    absorb: { names: ["all"] },
  },
  looks: { place: 0 },
  comparedWith: ["variance"],
  memory: {
    size: (spec) => learnedLayout(spec).length + (has(spec as LearnedSpec, "local") ? localSize(spec) : 0),
    room: (spec, state) => fitOf(spec, state).room(),
    observe: (spec, state, y) => fitOf(spec, state).observe(y),
    open(spec, state) {
      const fit = fitOf(spec, state), own = spec as LearnedSpec, memory = localMemory(spec, state);
      return {
        score(token) {
          const features = fit.next();
          fill(features, own, token, memory);
          if (!features.every(Number.isFinite)) {
            const found = `a number that is not finite at token ${state.numbers[SLOT.seen]}`;
            throw new RangeError(`Cannot scan layer ${spec.layer}: found ${found}, expected finite inputs`);
          }
          return -fit.predictNext();
        },
        settle: (skip) => fit.settle(skip),
        close: () => fit.fitIfComplete(),
      };
    },
  },
};
