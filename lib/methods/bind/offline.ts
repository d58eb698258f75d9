/** Methods that alter a model, bound to a calibration text or to the warm-up of each sequence. */
import { wrongOption } from "../../filter/option.ts";
import { ownCalibration, type SeenPrompt } from "../protocol/calibration.ts";
import type { AnyOffline } from "../protocol/method.ts";
import { createDense, type Pruner, type PrunerContext } from "../protocol/pruner.ts";

/** Tokens that a prompt must have at least. */
const MIN_PROMPT = 4;

/** Binds it to its text, or to a warm-up. @throws {RangeError} If there is no text, or the warm-up is too short. */
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
      throw wrongOption("warmup", `${warmup}`, `at least ${MIN_PROMPT} since "${name}" goes by it`);
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
