/** SmolLM3: Llama with layers that have no rotary embedding. */
import type { Architecture } from "./architecture.ts";
import { llama, readBiases, readSizes } from "./llama.ts";
import { readUpperWindows } from "./windows.ts";

/** Interval of the layers without rotary embedding, each the last of its group, if a file does not specify it. */
const INTERVAL = 4;
/** The rotary embedding's base, if a config.json does not specify it. */
const USUAL_THETA = 2_000_000;

/** Llama with layers without rotary embedding. */
export const smollm3: Architecture = {
  ...llama,
  name: "smollm3",
  gguf: { ...llama.gguf!, name: "smollm3" },
  hf: { ...llama.hf, name: "SmolLM3ForCausalLM" },
  readConfig(reader) {
    const config = readSizes(reader, { defaultTheta: USUAL_THETA }), { numLayers } = config;
    const interval = reader.isGguf ? INTERVAL : reader.size("no_rope_layer_interval", INTERVAL);
    const key = "no_rope_layers",
      listed = !reader.isGguf && reader.has(key) ? reader.numbers(key) : undefined;
    if (listed !== undefined && listed.length !== numLayers) {
      throw reader.error(key, `found ${listed.length} entries, expected one for each of ${numLayers} layers`);
    }
    // In spite of the list's name, 1 means that a layer has a rotary embedding.
    const turns = (layer: number) =>
      listed === undefined ? (layer + 1) % interval !== 0 : listed[layer] !== 0;
    const { layers: windows } = readUpperWindows(reader, numLayers, (layer) => !turns(layer));
    const layers = Array.from(
      { length: numLayers },
      (_, layer) => ({ ...windows?.[layer], ...(!turns(layer) && { rope: null }) }),
    );
    return { ...config, layers, ...readBiases(reader) };
  },
};
