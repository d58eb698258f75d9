/** Dumps of keys and values, of one layer or of several. */
import { UsageError } from "../../../lib/errors.ts";
import { fromBf16, fromF16 } from "../../../lib/math/half.ts";
import { parseSafetensors } from "../../../lib/model/formats/safetensors.ts";
import type { HostTensor } from "../../../lib/tensor.ts";
import { readBytes } from "../cli/files.ts";

/** Keys and values of one layer, [T, H, d], and its queries, if there are any. */
export interface Dump {
  /** The layer's number, if the dump contains it. */
  readonly layer: number | undefined;
  readonly keys: HostTensor;
  readonly values: HostTensor;
  /** Queries, [T, heads, d], where the dump has them. */
  readonly queries?: HostTensor;
  /** Mean square gain of the output projection for each head, [heads] f32, where the dump has it besides queries. */
  readonly headWeights?: HostTensor;
}

/**
 * Reads a dump: tensors `keys` and `values` of one layer, or `keys.N` and `values.N` of each layer N; `queries` and
 * `headWeights` likewise, which may be missing.
 *
 * @param layer The only layer to read, if there are several.
 * @returns Layers ascending.
 * @throws {UsageError | ModelFormatError} If the file is none, lacks the layer, or holds keys and values that do not fit.
 */
export async function readDumps(path: string, layer: number | undefined): Promise<Dump[]> {
  const bytes = await readBytes(path);
  const numbers = parseSafetensors(bytes, path, []).names
    .flatMap((name) => /^(?:keys|values)\.(0|[1-9]\d*)$/.exec(name)?.slice(1).map(Number) ?? []);
  const layers = [...new Set(numbers)].sort((a, b) => a - b);
  if (layer !== undefined && layers.length > 0 && !layers.includes(layer)) {
    throw new UsageError(
      `Cannot use --layer ${layer}: found layers ${layers.join(", ")} in "${path}", expected one of them`,
    );
  }
  if (layers.length === 0) return [readDump(bytes, path, undefined)];
  return layers.filter((own) => layer === undefined || own === layer)
    .map((own) => readDump(bytes, path, own));
}

function readDump(bytes: Uint8Array<ArrayBuffer>, path: string, layer: number | undefined): Dump {
  const [keysName, valuesName, queriesName, weightsName] = ["keys", "values", "queries", "headWeights"]
    .map((name) => layer === undefined ? name : `${name}.${layer}`) as [string, string, string, string];
  const there = parseSafetensors(bytes, path, []).names;
  const more = [queriesName, weightsName].filter((name) => there.includes(name));
  const { tensors } = parseSafetensors(bytes, path, [keysName, valuesName, ...more]);
  const keys = tensors.get(keysName)!, values = tensors.get(valuesName)!, queries = tensors.get(queriesName);
  const headWeights = tensors.get(weightsName);
  if (keys.shape.length !== 3 || keys.shape.some((size) => size < 1)) {
    throw new UsageError(
      `Cannot use "${path}": found ${keysName} of shape [${keys.shape}], expected [T, H, d], all at least 1`,
    );
  }
  if (String(keys.shape) !== String(values.shape) || keys.dtype !== values.dtype) {
    throw new UsageError(
      `Cannot use "${path}": found ${keysName} ${keys.dtype} [${keys.shape}] and ${valuesName} ${values.dtype} ` +
        `[${values.shape}], expected both alike`,
    );
  }
  expectFinite(path, keysName, keys);
  expectFinite(path, valuesName, values);
  if (queries === undefined) return { layer, keys, values };
  const [tokens, heads, size] = keys.shape as [number, number, number], [count, own, width] = queries.shape;
  if (
    queries.shape.length !== 3 || count !== tokens || !(own! >= heads) || own! % heads !== 0 || width !== size
  ) {
    throw new UsageError(
      `Cannot use "${path}": found ${queriesName} of shape [${queries.shape}] next to ${keysName} of [${keys.shape}], ` +
        `expected [${tokens}, a multiple of ${heads}, ${size}]`,
    );
  }
  expectFinite(path, queriesName, queries);
  if (headWeights === undefined) return { layer, keys, values, queries };
  if (headWeights.dtype !== "f32" || String(headWeights.shape) !== String([own])) {
    throw new UsageError(
      `Cannot use "${path}": found ${weightsName} ${headWeights.dtype} [${headWeights.shape}] next to ${own} query ` +
        `heads, expected f32 [${own}]`,
    );
  }
  expectFinite(path, weightsName, headWeights);
  return { layer, keys, values, queries, headWeights };
}

function expectFinite(path: string, name: string, { dtype, data, shape }: HostTensor): void {
  const decode = dtype === "f16" ? fromF16 : dtype === "bf16" ? fromBf16 : (x: number) => x;
  const wrong = (data as Float32Array).findIndex((x) => !Number.isFinite(decode(x)));
  if (wrong < 0) return;
  const [, heads, size] = shape;
  const place = heads === undefined ? `head ${wrong}` : `token ${Math.floor(wrong / (heads * size!))}`;
  const found = `${decode(data[wrong]!)} in ${name} of ${place}`;
  throw new UsageError(`Cannot use "${path}": found ${found}, expected finite numbers`);
}
