/** Model files that this process maps into memory, and shares with others that do. */
import { mapFile } from "../../../../ffi/library/map_file.ts";

export interface MappedFile {
  readonly path: string;
  /** Bytes that it had. */
  readonly size: number;
}

const mapped: MappedFile[] = [];

/** All of them: where one is cut short, the system ends the process that reads beyond its end. */
export const mappedFiles = (): readonly MappedFile[] => mapped;

export function mapShared(path: string): Uint8Array<ArrayBuffer> {
  mapped.push({ path, size: Deno.statSync(path).size });
  return mapFile(path);
}
