/** Methods that alter a model once, before any token, by what it does on a calibration text. */
import type { OptionTable, Resolved } from "../filter/option.ts";
import { type Alteration, type CalibratedModel, ownCalibration } from "./calibration.ts";
import { createDense } from "./dense.ts";
import type { MethodInfo, None } from "./method.ts";
import { chooseParts, type PartKind } from "./parts.ts";
import type { Pruner, PrunerContext } from "./pruner.ts";

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

/** Any such method. */
export type AnyOffline = OfflineMethod<string, OptionTable, never>;

/**
 * Binds it to its text.
 *
 * @throws {RangeError} If there is none.
 */
export function createOffline(
  method: AnyOffline,
  options: { readonly pruneRatio: number },
  { calibration = ownCalibration() }: PrunerContext,
): Pruner {
  const { name } = method;
  if (calibration === undefined) {
    throw new RangeError(`Cannot prune by "${name}" without a calibration text: expected --calibration FILE`);
  }
  const own = { pruneRatio: options.pruneRatio, ...pickOwn(method, options) };
  return {
    ...createDense(),
    name,
    alters: {
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
