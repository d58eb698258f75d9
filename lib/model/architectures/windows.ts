/** Which layers have a sliding attention window. */
import type { LayerConfig } from "../config/config.ts";
import type { ConfigReader } from "../config/config_reader.ts";

/** How many positions a layer's attention reaches back over. */
export const WINDOW = { gguf: "attention.sliding_window", hf: "sliding_window" };

/**
 * The same window in all layers, where there is one.
 *
 * @param byDefault The window by default; null means that there is none.
 */
export function readEveryWindow(
  reader: ConfigReader,
  numLayers: number,
  byDefault?: number,
): { readonly layers?: LayerConfig[] } {
  if (!reader.has(WINDOW) && (byDefault === undefined || reader.isNull(WINDOW))) return {};
  return { layers: new Array<LayerConfig>(numLayers).fill({ window: reader.size(WINDOW, byDefault) }) };
}

/**
 * Which layers are local by a config.json's `layer_types`; undefined where it has none.
 *
 * @throws {ModelFormatError} If the list has another length or kind.
 */
export function readLocalLayers(reader: ConfigReader, numLayers: number): boolean[] | undefined {
  const key = "layer_types";
  if (!reader.has(key)) return undefined;
  const types = reader.strings(key), odd = types.find((type) => !/^(full|sliding)_attention$/.test(type));
  if (odd !== undefined) {
    throw reader.error(key, `found "${odd}", expected full_attention or sliding_attention`);
  }
  if (types.length !== numLayers) {
    throw reader.error(key, `found ${types.length} entries, expected one for each of ${numLayers} layers`);
  }
  return types.map((type) => type === "sliding_attention");
}

/** The first layer with a window, if a file does not specify it. */
const FIRST_LAYER = 28;

/**
 * A window in the upper layers, as set in Qwen's configs: `use_sliding_window`, `max_window_layers`.
 *
 * @param hasWindow Which layers have one where no list specifies it; default: those from `max_window_layers` on.
 * @throws {ModelFormatError} If a value is missing or does not fit.
 */
export function readUpperWindows(
  reader: ConfigReader,
  numLayers: number,
  hasWindow?: (layer: number) => boolean,
): { readonly layers?: LayerConfig[] } {
  if (reader.isGguf) return {};
  const local = readLocalLayers(reader, numLayers);
  const window = reader.has(WINDOW) ? reader.size(WINDOW) : undefined;
  const first = reader.integer("max_window_layers", FIRST_LAYER);
  if (!reader.boolean("use_sliding_window", false)) {
    if (local?.includes(true)) {
      throw reader.error("layer_types", "found sliding_attention without use_sliding_window");
    }
    return {};
  }
  if (window === undefined) throw reader.error(WINDOW, "found no such key, expected the window's size");
  const layers = Array.from(
    { length: numLayers },
    (_, layer) => (local?.[layer] ?? hasWindow?.(layer) ?? layer >= first) ? { window } : {},
  );
  return { layers };
}
