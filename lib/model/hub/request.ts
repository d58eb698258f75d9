/**
 * Requests to the Hugging Face hub, and downloads of its files: with a token, retries, and errors that name the fix. A
 * broken download is resumed, and the whole file is checked.
 */
import { createHash } from "node:crypto";
import { ifThere, userCacheDir } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import type { ReadOptions } from "../formats/_byte_source.ts";
import { disposing } from "../../disposing.ts";

export interface HubOptions extends ReadOptions {
  /** Address of the hub. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string;
  /** Instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Whether to ask no host, and to use only the cache. Default: whether `HF_HUB_OFFLINE` is set. */
  readonly offline?: boolean;
  /** Folder of the hub's cache. Default: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`. */
  readonly hubCache?: string;
  /** Milliseconds without an answer or a byte after which a connection counts as dropped. Default 15,000. */
  readonly stallMs?: number;
  /** Milliseconds before the first repetition; each one after it waits twice as long. Default 1,000. */
  readonly retryMs?: number;
}

/** Tries in a row that bring nothing. */
const TRIES = 4;

/** Bytes of a body that must arrive within `stallMs`: a server that sends a byte now and then counts as silent. */
const LEAST_BYTES = 4096;

/** A try counts as progress if a download grows by this fraction of the file, or this number of bytes if less. */
const STEP_SHARE = 1 / 64, STEP_BYTES = 2 ** 20;

/** If a server asks for a longer pause, there is no further try. */
const LONGEST_PAUSE_MS = 60_000;

/** The hub does not answer, or not for now: the files in the cache may suffice. */
export class HubUnreachableError extends Error {}

/** One try failed, and another may not. */
class TryAgain extends Error {
  readonly afterMs: number | undefined;

  constructor(reason: string, afterMs?: number) {
    super(reason);
    this.afterMs = afterMs;
  }
}

export function endpointOf({ endpoint }: HubOptions): string {
  return (endpoint ?? (Deno.env.get("HF_ENDPOINT") || "https://huggingface.co")).replace(/\/+$/, "");
}

/**
 * Runs `attempt` until it succeeds, or has failed {@linkcode TRIES} times since it last came further.
 *
 * @param tries Tries before it first came further.
 * @throws {HubUnreachableError} After the last try; other errors of `attempt` at once.
 */
export async function persist<T>(
  { retryMs = 1000 }: HubOptions,
  attempt: (cameFurther: () => void) => Promise<T>,
  tries = TRIES,
): Promise<T> {
  for (let left = tries;;) {
    try {
      return await attempt(() => left = TRIES);
    } catch (error) {
      if (!(error instanceof TryAgain)) throw error;
      const pauseMs = error.afterMs ?? retryMs * 2 ** (TRIES - left);
      if (--left === 0 || pauseMs > LONGEST_PAUSE_MS) throw new HubUnreachableError(error.message);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

/**
 * One request, whose body is read before it counts as answered. The access token is sent only to the hub's own origin.
 *
 * @param read Takes the response; `alive` is to be called with the bytes that have come, whenever some have.
 * @throws {TryAgain} If nothing comes, the connection breaks, or the server asks for patience (429, 5xx).
 * @throws {UsageError} If the hub refuses.
 */
export async function ask<T>(
  url: string,
  repository: string,
  options: HubOptions,
  init: RequestInit & { readonly headers?: Record<string, string> },
  read: (response: Response, alive: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  const { stallMs = 15_000 } = options, abort = new AbortController(), seconds = stallMs / 1000;
  let bytes = 0;
  const stall = () =>
    abort.abort(
      new Error(bytes === 0 ? `found no answer for ${seconds} s` : `found ${bytes} bytes in ${seconds} s`),
    );
  let timer = setTimeout(stall, stallMs);
  const alive = (more: number) => {
    bytes += more;
    if (bytes < LEAST_BYTES) return;
    bytes = 0;
    clearTimeout(timer);
    timer = setTimeout(stall, stallMs);
  };
  const isOwn = URL.parse(url)?.origin === URL.parse(endpointOf(options))?.origin;
  const token = isOwn ? await findToken() : undefined;
  try {
    const response = await (options.fetch ?? fetch)(url, {
      ...init,
      signal: abort.signal,
      headers: { ...init.headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
    });
    alive(LEAST_BYTES);
    const isRedirect = init.redirect === "manual" && response.status >= 300 && response.status < 400;
    if (response.ok || isRedirect) return await read(response, alive);
    await response.body?.cancel();
    throw refusal(response, url, repository, token !== undefined, options);
  } catch (error) {
    const reason = abort.signal.aborted ? abort.signal.reason as Error : error;
    if (!abort.signal.aborted && !brokenKinds().some((type) => error instanceof type)) throw error;
    throw new TryAgain((reason as Error).message.replaceAll(/\s+/g, " ").trim());
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The bytes of a body.
 *
 * @throws {UsageError} If there are more than `most` (unpacked, where it came packed): the rest is not read.
 */
export async function readBody(
  response: Response,
  url: string,
  most: number,
  alive: (bytes: number) => void = () => {},
): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    alive(chunk.length);
    bytes += chunk.length;
    if (bytes > most) {
      throw new UsageError(`Cannot get "${url}": found more than ${most} bytes, expected fewer`);
    }
    parts.push(chunk);
  }
  return new Blob(parts);
}

/**
 * How a broken connection shows itself; a SyntaxError is JSON that has been cut short. It is a function since Node.js, where
 * Deno is not defined, imports this file too.
 */
const brokenKinds = () => [
  TypeError,
  SyntaxError,
  Deno.errors.BrokenPipe,
  Deno.errors.ConnectionAborted,
  Deno.errors.ConnectionRefused,
  Deno.errors.ConnectionReset,
  Deno.errors.Http,
  Deno.errors.TimedOut,
  Deno.errors.UnexpectedEof,
];

function refusal(
  { status, headers }: Response,
  url: string,
  repository: string,
  hasToken: boolean,
  options: HubOptions,
): Error {
  const fail = (message: string) => new UsageError(`Cannot get "${repository}" from the hub: ${message}`);
  const page = `${endpointOf(options)}/${repository.replace(/[@:].*/, "")}`;
  switch (status) {
    case 401:
      return fail(
        hasToken
          ? "found that it does not accept the token, expected a valid one: make one in the hub's settings and set HF_TOKEN"
          : `found that it needs a token (or has no such repository): accept the licence at ${page}, make a token in the hub's settings and set HF_TOKEN`,
      );
    case 403:
      return fail(
        `found no access (HTTP status 403), expected a licence that you have accepted at ${page}` +
          (hasToken ? " with the account of HF_TOKEN" : ", and HF_TOKEN set to a token of that account"),
      );
    case 404:
      return fail(
        `found nothing at ${url} (HTTP status 404): check repository, revision and file at ${page}`,
      );
  }
  const said = headers.get("retry-after"), afterMs = said === null ? undefined : 1000 * Number(said);
  const reason = `found HTTP status ${status}${status === 429 ? " (too many requests)" : ""}`;
  if (status === 429 || status >= 500 || status === 408) {
    return new TryAgain(reason, afterMs !== undefined && afterMs >= 0 ? afterMs : undefined);
  }
  return fail(`${reason}, expected 200`);
}

interface RemoteFile {
  readonly url: string;
  readonly repository: string;
  readonly name: string;
  /** SHA-256 in hex, else git's digest, which is shorter. */
  readonly digest: string;
  readonly size: number;
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
  const step = Math.min(STEP_SHARE * size, STEP_BYTES);
  let wrong = 0, most = 0;
  await persist(options, async (cameFurther) => {
    const there = await ifThere(Deno.lstat(path));
    if (there?.isSymlink) await Deno.remove(path); // it would be written through, into a file elsewhere
    let doneBytes = there?.isFile ? there.size : 0;
    if (doneBytes > size) await Deno.remove(path), doneBytes = 0;
    if (doneBytes === 0 || doneBytes !== size) {
      const headers: Record<string, string> = { "accept-encoding": "identity" };
      if (doneBytes > 0) headers["range"] = `bytes=${doneBytes}-`;
      await ask(url, repository, options, { headers }, async (response, alive) => {
        const range = response.headers.get("content-range") ?? "";
        const goesOn = response.status === 206 && range.startsWith(`bytes ${doneBytes}-`);
        if (response.status === 206 && !goesOn) throw new TryAgain("found another range than was asked for");
        if (!goesOn) doneBytes = 0;
        const file = await Deno.open(path, { create: true, write: true, append: goesOn, truncate: !goesOn });
        await disposing(file, async (out) => {
          for await (const chunk of response.body ?? []) {
            alive(chunk.length);
            for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
            doneBytes += chunk.length;
            // A server that always begins at the front comes no further by sending the same again, or hardly more.
            if (most === 0 || doneBytes >= most + step) most = doneBytes, cameFurther();
            if (doneBytes > size) break;
            options.onProgress?.({
              stage: "download",
              source: new URL(url).host,
              doneBytes,
              totalBytes: size,
            });
          }
        });
      });
    }
    if (doneBytes < size) {
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
export async function digestOf(path: string, size: number, isSha256: boolean): Promise<string> {
  const hash = createHash(isSha256 ? "sha256" : "sha1");
  if (!isSha256) hash.update(`blob ${size}\0`);
  for await (const chunk of (await Deno.open(path)).readable) hash.update(chunk);
  return hash.digest("hex");
}

/** The user's token: `HF_TOKEN`, else the one that the hub's own tools have stored. */
async function findToken(): Promise<string | undefined> {
  const set = Deno.env.get("HF_TOKEN") ?? Deno.env.get("HUGGING_FACE_HUB_TOKEN");
  if (set !== undefined) return set.trim() || undefined;
  const home = hfHome(), path = Deno.env.get("HF_TOKEN_PATH") ?? (home && `${home}/token`);
  return path && await Deno.readTextFile(path).then((text) => text.trim() || undefined, () => undefined);
}

/** The folder of the hub's own tools; undefined where there is no home. */
export function hfHome(): string | undefined {
  const home = Deno.env.get("HF_HOME"), cache = userCacheDir();
  return home || (cache && `${cache}/huggingface`);
}
