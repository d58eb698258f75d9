/** An axis of layers. */
import { axis, type Json, type JsonObject } from "./figure.ts";

/** More layers than this do not get a tick each. */
const MAX_TICKS = 12;

/** A horizontal axis with a tick at every layer, or at some where there are many. */
export function layerAxis(layers: readonly number[], more: JsonObject = {}): Json {
  const span = layers.length === 0 ? 0 : layers.at(-1)! - layers[0]!;
  return axis("", {
    title: { text: "layer" },
    showgrid: false,
    tickformat: "d",
    dtick: span < MAX_TICKS ? 1 : 5,
    ...more,
  });
}
