/** Downloads a file of the Hugging Face hub: what has come is gone on with, and the whole is checked. */
import { createHash } from "node:crypto";
import { ifThere } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import { ask, type HubOptions, persist, TryAgain } from "./request.ts";

export interface RemoteFile {
  readonly url: string;
  readonly repository: string;
  readonly name: string;
  /** SHA-256 in hex, else git's digest, which is shorter. */
  readonly digest: string;
  /** Bytes, where they are known. */
  readonly size: number | undefined;
}

/**
 * Downloads a file to a path. Bytes that lie there already are taken for its beginning.
 *
 * @param tries Tries before the first byte has come.
 * @throws {HubUnreachableError} If the hub does not answer, or sends too little again and again.
 * @throws {UsageError} If the hub refuses, or sends another file twice.
 */
export async function download(
  { url, repository, name, digest, size }: RemoteFile,
  path: string,
  options: HubOptions,
  tries?: number,
): Promise<void> {
  let wrong = 0, most = 0;
  await persist(options, async (cameFurther) => {
    let doneBytes = (await ifThere(Deno.stat(path)))?.size ?? 0;
    if (size !== undefined && doneBytes > size) await Deno.remove(path), doneBytes = 0;
    if (doneBytes === 0 || doneBytes !== size) {
      const headers: Record<string, string> = { "accept-encoding": "identity" };
      if (doneBytes > 0) headers.range = `bytes=${doneBytes}-`;
      await ask(url, repository, options, { headers }, async (response, alive) => {
        const goesOn = response.status === 206 &&
          response.headers.get("content-range")?.startsWith(`bytes ${doneBytes}-`);
        if (response.status === 206 && !goesOn) throw new TryAgain("found another range than was asked for");
        if (!goesOn) doneBytes = 0;
        using out = await Deno.open(path, { create: true, write: true, append: goesOn, truncate: !goesOn });
        for await (const chunk of response.body ?? []) {
          alive();
          for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
          doneBytes += chunk.length;
          // A server that always begins at the front comes no further by sending the same again.
          if (doneBytes > most) most = doneBytes, cameFurther();
          if (doneBytes > (size ?? Infinity)) break;
          const source = new URL(url).host, totalBytes = size ?? doneBytes;
          options.onProgress?.({ stage: "download", source, doneBytes, totalBytes });
        }
      });
    }
    if (size !== undefined && doneBytes < size) {
      throw new TryAgain(`found ${doneBytes} bytes of ${name}, expected ${size}`);
    }
    const found = await digestOf(path, doneBytes, digest.length === 64);
    if (found === digest) return;
    await Deno.remove(path);
    most = 0;
    if (++wrong === 2) {
      throw new UsageError(
        `Cannot get ${url}: found a file of digest ${found} twice, expected ${digest}: is there a proxy between?`,
      );
    }
    throw new TryAgain(`found digest ${found} of ${name}, expected ${digest}`);
  }, tries);
}

/** SHA-256 of a file in hex, or git's digest of it. */
async function digestOf(path: string, size: number, isSha256: boolean): Promise<string> {
  const hash = createHash(isSha256 ? "sha256" : "sha1");
  if (!isSha256) hash.update(`blob ${size}\0`);
  for await (const chunk of (await Deno.open(path)).readable) hash.update(chunk);
  return hash.digest("hex");
}
