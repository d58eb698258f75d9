/** Files of the hub's cache, which have their digests for names. */
import { UsageError } from "../../errors.ts";

/** A digest of git, or SHA-256. */
export const DIGEST = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

export interface Blob {
  /** The file itself, which links lead to. */
  readonly path: string;
  /** Its digest as it was downloaded: 40 digits of git's, or 64 of SHA-256. */
  readonly digest: string;
}

/** The blob that a path leads to; undefined where it is none of the hub's cache. */
export async function blobOf(path: string): Promise<Blob | undefined> {
  const real = await Deno.realPath(path), [folder, name = ""] = real.split(/[/\\]/).slice(-2);
  return folder === "blobs" && DIGEST.test(name) ? { path: real, digest: name } : undefined;
}

/** Checks that a file is as it was downloaded. @throws {UsageError} If its digest is another one. */
export function expectBlob(file: string, { path, digest }: Blob, found: string): void {
  if (found === digest) return;
  throw new UsageError(
    `Cannot read "${file}": found digest ${found} in the cache, expected ${digest}; remove "${path}", and it is downloaded ` +
      "again",
  );
}
