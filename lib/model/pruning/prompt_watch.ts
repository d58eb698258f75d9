/** Statistics of a sequence's own first tokens, for methods that alter the model for the tokens behind them. */
import { mlpFlops } from "../../cost.ts";
import type { Adapts } from "../../methods/protocol/calibration.ts";
import { Moments } from "../../methods/protocol/moments.ts";
import { f32Data } from "../../tensor.ts";
import { alterModel } from "./altered.ts";
import { readMatrix } from "./calibrated.ts";
import type { RunModel, See } from "../run/forward_pass.ts";

export interface PromptWatch {
  readonly see: See;
  /** The model for the tokens that come, and the operations of its MLPs that it spares, per token. */
  alter(): { readonly model: RunModel; readonly sparedFlops: number };
  clone(): PromptWatch;
}

/** @param seen Moments of the rows so far, by layer and name. */
export function watchPrompt(model: RunModel, adapts: Adapts, seen = new Map<string, Moments>()): PromptWatch {
  return {
    see(layer, name, x) {
      if (!adapts.names.includes(name)) return;
      const key = `${layer} ${name}`, moments = seen.get(key) ?? new Moments(x.shape[1]!);
      moments.add(f32Data(model.backend.read(x)), x.shape[0]!);
      seen.set(key, moments);
    },

    alter() {
      const layers = adapts.alter({
        config: model.config,
        moments: (layer, name) => seen.get(`${layer} ${name}`)!,
        matrix: (layer, name) => readMatrix(model, layer, name),
      });
      const altered = alterModel(model, { layers }).model;
      const spared = altered.config.layers!.map((own) =>
        mlpFlops(model.config, 1) - mlpFlops({ ...model.config, ...own }, 1)
      );
      return { model: altered, sparedFlops: spared.reduce((a, b) => a + b, 0) };
    },

    clone: () => watchPrompt(model, adapts, new Map(Array.from(seen, ([key, own]) => [key, own.clone()]))),
  };
}
