/** What a sequence's own first tokens say of the model, for methods that alter it for the tokens behind them. */
import { mlpFlops } from "../cost.ts";
import type { Adapts } from "../methods/calibration.ts";
import { Moments } from "../methods/width.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import { type Altered, alterModel } from "./altered.ts";
import { readMatrix } from "./calibrated.ts";
import type { Model } from "./model.ts";
import { PartMeter } from "./part_meter.ts";

/** Watches the first tokens. */
export class PromptWatch {
  readonly #model: Model;
  readonly #adapts: Adapts;
  #meter: PartMeter;
  #moments = new Map<string, Moments>();

  constructor(model: Model, adapts: Adapts) {
    this.#model = model;
    this.#adapts = adapts;
    this.#meter = new PartMeter(model.config.numLayers);
  }

  /** Looks at what passes by. */
  see(layer: number, name: string, x: Tensor): void {
    const reads = this.#adapts.names.includes(name);
    if (!reads && !PartMeter.reads(name)) return;
    const rows = f32Data(this.#model.backend.read(x)).slice();
    if (!reads) return this.#meter.see(layer, name, rows, x.shape[0]!);
    const key = `${layer} ${name}`, moments = this.#moments.get(key) ?? new Moments(x.shape[1]!);
    moments.add(rows, x.shape[0]!);
    this.#moments.set(key, moments);
  }

  /** The model for the tokens that come, and the operations of its MLPs that it spares, a token. */
  alter(): Altered & { readonly sparedFlops: number } {
    const model = this.#model;
    const alteration = this.#adapts.alter({
      config: model.config,
      importance: this.#meter.importance,
      moments: (layer, name) => this.#moments.get(`${layer} ${name}`)!,
      matrix: (layer, name) => readMatrix(model, layer, name),
    });
    const altered = alterModel(model, alteration, (config, weights) => model.alike(config, weights));
    const spared = (altered.model.config.layers ?? []).map((own) =>
      mlpFlops(model.config, 1) - mlpFlops({ ...model.config, ...own }, 1)
    );
    return { ...altered, sparedFlops: spared.reduce((a, b) => a + b, 0) };
  }

  /** An independent copy. */
  clone(): PromptWatch {
    const copy = new PromptWatch(this.#model, this.#adapts);
    copy.#meter = this.#meter.clone();
    copy.#moments = new Map(Array.from(this.#moments, ([key, moments]) => [key, moments.clone()]));
    return copy;
  }
}
