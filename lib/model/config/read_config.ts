/** Reads a model's sizes: finds its architecture, and refuses unknown keys. */
import type { Architecture } from "../architectures/architecture.ts";
import { ARCHITECTURES } from "../architectures/mod.ts";
import type { ModelConfig } from "./config.ts";
import { type ConfigOptions, ConfigReader, type KeyValue, type ModelSource } from "./config_reader.ts";
import { GgufFile } from "../formats/gguf.ts";
import { JsonKeys } from "../formats/_keyed_file.ts";
import type { HfFolder } from "../formats/hf_folder.ts";

/** Keys of a GGUF file outside an architecture's prefix that change a model's computation; see `neutralKeys`. */
const GGUF_NEUTRAL: { readonly [key: string]: KeyValue } = { "general.type": "model", "split.count": 1 };

/**
 * Reads a model's sizes from a GGUF file's metadata or the config.json of a Hugging Face folder.
 *
 * Anything unknown that could change the model's results is an error. Every key of a config.json must be one that its
 * entry in `architectures/` reads or lists. The same holds for the keys of a GGUF file that begin with the name of the
 * architecture. (Keys of a GGUF file under other prefixes, `tokenizer.` aside, are notes about the file.)
 *
 * @throws {ModelFormatError} If the architecture does not run here, a key is missing, of a wrong type, out of range or
 * not known; the message names the key.
 *
 * @example
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * console.assert(readModelConfig(parseGguf(bytes, path)).numLayers === 10);
 * ```
 */
export function readModelConfig(source: ModelSource, options: ConfigOptions = {}): ModelConfig {
  const isGguf = source instanceof GgufFile, file = isGguf ? source : source.config;
  const architecture = isGguf ? findGguf(source) : findHf(source);
  const form = isGguf ? architecture.gguf! : architecture.hf,
    prefix = isGguf ? `${architecture.gguf!.name}.` : "";
  const reader = new ConfigReader(source, architecture.name, prefix, options);
  const config = architecture.readConfig(reader);
  const own = Object.entries(form.neutralKeys).map(([key, value]) => [prefix + key, value] as const);
  const neutral = new Map([...(isGguf ? Object.entries(GGUF_NEUTRAL) : []), ...own]);
  const known = new Set([...reader.asked, ...form.informativeKeys.map((key) => prefix + key)]);
  for (const [key, found] of file.entries()) {
    const want = neutral.get(key);
    if (known.has(key)) continue;
    if (want !== undefined && found !== want) {
      throw file.error(
        key,
        `found ${JSON.stringify(found)}, expected ${JSON.stringify(want)} or no such key`,
      );
    }
    if (want === undefined && key.startsWith(prefix)) {
      throw file.error(key, "found a key that this project does not support, so its results could be wrong");
    }
  }
  return config;
}

/** Reads the sizes from the text of a config.json, for plans without weights; throws as {@linkcode readModelConfig}. */
export function readConfigText(file: string, text: string): ModelConfig {
  return readModelConfig({ file, config: new JsonKeys(file, text), tensors: new Map(), sha256: "" });
}

function findGguf(file: GgufFile): Architecture {
  const name = file.string("general.architecture");
  const found = ARCHITECTURES.find(({ gguf }) => gguf?.name === name);
  if (found !== undefined) return found;
  const names = ARCHITECTURES.flatMap(({ gguf }) => gguf === undefined ? [] : [`"${gguf.name}"`]).join(", ");
  throw file.error("general.architecture", `found "${name}", expected one that runs here: ${names}`);
}

function findHf({ config }: HfFolder): Architecture {
  const names = config.strings("architectures");
  const found = ARCHITECTURES.find(({ hf }) => names.includes(hf.name));
  if (found !== undefined) return found;
  const known = ARCHITECTURES.map(({ hf }) => `"${hf.name}"`).join(", ");
  throw config.error("architectures", `found "${names}", expected one that runs here: ${known}`);
}
