/** Statistics of a sequence's own first tokens, for methods that alter the model for the tokens behind them. */
import { mlpFlops } from "../../cost.ts";
import type { Adapts } from "../../methods/model_pruning/calibration.ts";
import { Moments } from "../../methods/model_pruning/width.ts";
import { f32Data, type Tensor } from "../../tensor.ts";
import { alterModel } from "./altered.ts";
import { readMatrix } from "./calibrated.ts";
import type { RunModel } from "../run/forward_pass.ts";

export class PromptWatch {
  #moments = new Map<string, Moments>();
  private readonly model: RunModel;
  private readonly adapts: Adapts;

  constructor(model: RunModel, adapts: Adapts) {
    this.model = model;
    this.adapts = adapts;
  }

  see(layer: number, name: string, x: Tensor): void {
    if (!this.adapts.names.includes(name)) return;
    const key = `${layer} ${name}`, moments = this.#moments.get(key) ?? new Moments(x.shape[1]!);
    moments.add(f32Data(this.model.backend.read(x)), x.shape[0]!);
    this.#moments.set(key, moments);
  }

  /** The model for the tokens that come, and the operations of its MLPs that it spares, per token. */
  alter(): { readonly model: RunModel; readonly sparedFlops: number } {
    const model = this.model;
    const layers = this.adapts.alter({
      config: model.config,
      moments: (layer, name) => this.#moments.get(`${layer} ${name}`)!,
      matrix: (layer, name) => readMatrix(model, layer, name),
    });
    const altered = alterModel(model, { layers }).model;
    const spared = altered.config.layers!.map((own) =>
      mlpFlops(model.config, 1) - mlpFlops({ ...model.config, ...own }, 1)
    );
    return { model: altered, sparedFlops: spared.reduce((a, b) => a + b, 0) };
  }

  clone(): PromptWatch {
    const copy = new PromptWatch(this.model, this.adapts);
    copy.#moments = new Map(Array.from(this.#moments, ([key, moments]) => [key, moments.clone()]));
    return copy;
  }
}
