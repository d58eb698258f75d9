/** A folder as Hugging Face transformers saves a model: config.json, and tensors in one or several safetensors files. */
import { ModelFormatError } from "../../errors.ts";
import { sha256 } from "../../sha256.ts";
import type { Folder } from "./_byte_source.ts";
import type { FileTensor } from "./_file_tensor.ts";
import { isObject, JsonKeys, parseObject } from "./_keyed_file.ts";
import { readSafetensors } from "./safetensors.ts";

/** Files of tensors that an index may name: the largest published models have about 200. */
const MAX_SHARDS = 1024;
const BY_INDEX = "expected it in the file that the index names";

export interface HfFolder {
  readonly file: string;
  readonly config: JsonKeys;
  readonly tensors: ReadonlyMap<string, FileTensor>;
  /** SHA-256 in hex, of a line of digest and name for each file. */
  readonly sha256: string;
}

/**
 * Reads a folder: `config.json`, and `model.safetensors` or the files that `model.safetensors.index.json` names.
 *
 * @throws {ModelFormatError} If a file is missing or broken, the index names a tensor that its file has not, or two files
 * have the same tensor.
 */
export async function readHfFolder(folder: Folder): Promise<HfFolder> {
  const path = (name: string) => `${folder.path}/${name}`;
  const text = await folder.text("config.json");
  if (text === undefined) {
    throw new ModelFormatError(
      folder.path,
      "found no config.json, expected a folder that transformers has saved",
    );
  }
  const config = new JsonKeys(path("config.json"), text);
  const index = await folder.text("model.safetensors.index.json");
  const places = index === undefined ? undefined : readIndex(path("model.safetensors.index.json"), index);
  const names = places === undefined ? ["model.safetensors"] : [...new Set(places.values())].toSorted();
  const tensors = new Map<string, FileTensor>(),
    digests = [`${await sha256(new TextEncoder().encode(text))} config.json`];
  for (const name of names) {
    const file = await folder.open(name);
    if (file === undefined) {
      throw new ModelFormatError(path(name), "found no such file, expected the model's tensors");
    }
    digests.push(`${file.sha256} ${name}`);
    for (const [tensor, value] of readSafetensors(file).tensors) {
      if (tensors.has(tensor) || (places !== undefined && places.get(tensor) !== name)) {
        throw new ModelFormatError(path(name), `found tensor "${tensor}", ${BY_INDEX}`);
      }
      tensors.set(tensor, value);
    }
  }
  const lost = [...places?.keys() ?? []].find((tensor) => !tensors.has(tensor));
  if (lost !== undefined) {
    throw new ModelFormatError(path(places!.get(lost)!), `found no tensor "${lost}", ${BY_INDEX}`);
  }
  return {
    file: folder.path,
    config,
    tensors,
    sha256: await sha256(new TextEncoder().encode(digests.join("\n") + "\n")),
  };
}

/** The file of each tensor. @throws {ModelFormatError} If it is no such index. */
export function readIndex(file: string, text: string): Map<string, string> {
  const { weight_map: map } = parseObject(file, text, "an index");
  if (!isObject(map)) {
    throw new ModelFormatError(file, '"weight_map": found no object, expected the file of each tensor');
  }
  const places = new Map(Object.entries(map)), files = new Set(places.values());
  const odd = [...files].find((name) => typeof name !== "string" || !/^[\w.-]+\.safetensors$/.test(name));
  if (odd !== undefined || files.size > MAX_SHARDS) {
    const found = odd === undefined ? `${files.size} files` : JSON.stringify(odd);
    const expected = `expected at most ${MAX_SHARDS} names of files`;
    throw new ModelFormatError(file, `"weight_map": found ${found}, ${expected}`);
  }
  return places as Map<string, string>;
}
