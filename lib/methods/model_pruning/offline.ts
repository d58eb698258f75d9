/** Methods that alter a model once, before any token, by what it does on a calibration text. */
import type { OptionTable, Resolved } from "../../filter/option.ts";
import {
  type Alteration,
  type CalibratedModel,
  type LayerAlteration,
  ownCalibration,
  type SeenPrompt,
} from "./calibration.ts";
import { createDense } from "../dense.ts";
import type { MethodInfo, None } from "../method.ts";
import { chooseParts, type PartKind } from "./parts.ts";
import type { Pruner, PrunerContext } from "../pruner.ts";

/** A method that alters the model once. */
export interface OfflineMethod<
  Name extends string = string,
  O extends OptionTable = None,
  Values = Resolved<O>,
> extends MethodInfo<Name, O> {
  /** Says what it is. */
  readonly offline: true;
  /** What becomes of a model where `pruneRatio` of what the method prunes is to go. */
  alter(model: CalibratedModel, options: { readonly pruneRatio: number } & Values): Alteration;
}

/** A method that alters the model anew for each sequence, by what its warm-up has shown, for the tokens behind that. */
export interface PromptMethod<Name extends string = string> extends MethodInfo<Name, None> {
  /** Says what it is. */
  readonly offline: "prompt";
  /** Matrices whose inputs it asks for. */
  readonly names: readonly string[];
  /** What becomes of each layer where `pruneRatio` of what the method prunes is to go. */
  alter(seen: SeenPrompt, options: { readonly pruneRatio: number }): readonly LayerAlteration[];
}

/** Any method that alters the model. */
export type AnyOffline = OfflineMethod<string, OptionTable, never> | PromptMethod;

/** Tokens that a prompt must have at least. */
const MIN_PROMPT = 4;

/**
 * Binds it to its text, or to a warm-up.
 *
 * @throws {RangeError} If there is no text, or the warm-up is too short.
 */
export function createOffline(
  method: AnyOffline,
  options: { readonly pruneRatio: number; readonly warmup: number },
  { calibration = ownCalibration() }: PrunerContext,
): Pruner {
  const { name } = method, dense = createDense(), spans = { ...dense.spans, warmup: options.warmup };
  if (method.offline === "prompt") {
    const { pruneRatio, warmup } = options, { names } = method;
    if (pruneRatio === 0) return { ...dense, name, spans };
    if (warmup < MIN_PROMPT) {
      throw new RangeError(
        `Cannot use option "warmup": found ${warmup}, expected at least ${MIN_PROMPT} since "${name}" goes by it`,
      );
    }
    const alter = (seen: SeenPrompt) => method.alter(seen, { pruneRatio });
    return { ...dense, name, spans, at: "warm-up", prepare: { kind: "adapt", names, alter } };
  }
  if (calibration === undefined) {
    throw new RangeError(`Cannot prune by "${name}" without a calibration text: expected --calibration FILE`);
  }
  const own = { pruneRatio: options.pruneRatio, ...pickOwn(method, options) };
  return {
    ...dense,
    name,
    prepare: {
      kind: "alter",
      key: JSON.stringify([name, own, calibration.sha256, calibration.chunks.map(({ length }) => length)]),
      calibration,
      alter: (model) => own.pruneRatio === 0 ? {} : method.alter(model, own as never),
    },
  };
}

function pickOwn({ options = {} }: AnyOffline, values: object): object {
  const names = Object.keys(options);
  return Object.fromEntries(Object.entries(values).filter(([name]) => names.includes(name)));
}

/** Layers that a share of them comes to. */
export function countOfLayers({ config }: Pick<CalibratedModel, "config">, ratio: number): number {
  return Math.round(ratio * config.numLayers);
}

/** Leaves the parts of least importance out, a share of the layers. */
export function dropParts(kind: PartKind): OfflineMethod["alter"] {
  return (model, { pruneRatio }) => ({
    drops: chooseParts(model.importance, kind, countOfLayers(model, pruneRatio)),
  });
}
