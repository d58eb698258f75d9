/** GGUF models in several files, as llama.cpp's gguf-split writes them: `name-00001-of-00003.gguf`, … */
import { ModelFormatError } from "../../errors.ts";
import type { ByteSource } from "./_byte_source.ts";
import type { FileTensor } from "./_file_tensor.ts";
import { GgufFile, type GgufValue, readGguf } from "./gguf.ts";

/** Keys that say how a model was split. */
const NUMBER = "split.no", COUNT = "split.count", TENSORS = "split.tensors.count";

const PART = /-(\d{5})-of-(\d{5})(\.gguf)$/i;

/** Paths of all parts of a model, where a path is the first one's; undefined where it is no part's. */
export function partPaths(path: string): string[] | undefined {
  const [, number, count, end] = PART.exec(path) ?? [];
  if (count === undefined || Number(count) < 1) return undefined;
  if (Number(number) !== 1) {
    const first = path.replace(PART, `-00001-of-${count}${end}`);
    throw new ModelFormatError(
      path,
      `found part ${Number(number)} of a model, expected the first: "${first}"`,
    );
  }
  return Array.from(
    { length: Number(count) },
    (_, i) => path.replace(PART, `-${`${i + 1}`.padStart(5, "0")}-of-${count}${end}`),
  );
}

/**
 * Parses a model of one or several files: metadata of the first, tensors of all.
 *
 * @throws {ModelFormatError} If a file is broken, is not the part that its place says, or two have the same tensor.
 */
export function readGgufParts(sources: readonly ByteSource[]): GgufFile {
  const parts = sources.map(readGguf), [first] = parts as [GgufFile];
  if (sources.length === 1 && first.integer(COUNT, 1) === 1) return first;
  const tensors = new Map<string, FileTensor>();
  for (const [i, part] of parts.entries()) {
    for (const [key, want] of [[COUNT, parts.length], [NUMBER, i]] as const) {
      const found = part.integer(key);
      if (found !== want) {
        throw part.error(
          key,
          `found ${found}, expected ${want}: the files are named name-00001-of-0000N.gguf, …`,
        );
      }
    }
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name)) {
        throw new ModelFormatError(part.file, `found tensor "${name}" in two parts, expected it in one`);
      }
      tensors.set(name, tensor);
    }
  }
  const total = first.integer(TENSORS, tensors.size);
  if (total !== tensors.size) {
    throw first.error(TENSORS, `found ${total}, expected ${tensors.size} as the parts have: get them again`);
  }
  const metadata = new Map<string, GgufValue>(
    [...first.metadata].filter(([key]) => !key.startsWith("split.")),
  );
  return new GgufFile(first.file, first.version, metadata, tensors);
}
