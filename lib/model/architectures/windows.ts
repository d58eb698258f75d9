/** Which layers' attention reaches back over a window alone. */
import type { LayerConfig } from "../config.ts";
import type { ConfigReader } from "../config_reader.ts";

const WINDOW = { gguf: "attention.sliding_window", hf: "sliding_window" };

/** The window of a config; undefined where it has none. */
export function readWindow(reader: ConfigReader): number | undefined {
  return reader.has(WINDOW) ? reader.size(WINDOW) : undefined;
}

/** The same window in all layers, where there is one. */
export function readEveryWindow(
  reader: ConfigReader,
  numLayers: number,
): { readonly layers?: LayerConfig[] } {
  const window = readWindow(reader);
  return window === undefined ? {} : { layers: Array.from({ length: numLayers }, () => ({ window })) };
}

/** Of a config.json's `layer_types`, which layers are local; undefined where it has none. */
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

/** A window in the upper layers, as the configs of Qwen say it: `use_sliding_window`, `max_window_layers`. */
export function readUpperWindows(
  reader: ConfigReader,
  numLayers: number,
): { readonly layers?: LayerConfig[] } {
  if (reader.isGguf) return {};
  const local = readLocalLayers(reader, numLayers), window = readWindow(reader);
  const first = reader.has("max_window_layers") ? reader.integer("max_window_layers") : numLayers;
  if (!reader.boolean("use_sliding_window", false)) {
    if (local?.includes(true)) {
      throw reader.error("layer_types", "found sliding_attention without use_sliding_window");
    }
    return {};
  }
  if (window === undefined) {
    throw reader.error("sliding_window", "found no such key, expected the window's size");
  }
  const layers = Array.from(
    { length: numLayers },
    (_, layer) => (local?.[layer] ?? layer >= first) ? { window } : {},
  );
  return { layers };
}
