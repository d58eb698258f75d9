/** Asks the Hugging Face hub: with a token, with patience, and with errors that say what to do. */
import { UsageError } from "../../errors.ts";
import type { ReadOptions } from "../formats/_byte_source.ts";

export interface HubOptions extends ReadOptions {
  /** Address of the hub. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string;
  /** In place of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Whether to ask no host, and to take what is in the cache. Default: whether `HF_HUB_OFFLINE` is set. */
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

/** A server that wants a longer pause is left alone. */
const LONGEST_PAUSE_MS = 60_000;

/** The hub does not answer, or not for now: what is in the cache may do. */
export class HubUnreachableError extends Error {}

/** One try failed, and another may not. */
export class TryAgain extends Error {
  constructor(reason: string, readonly afterMs?: number) {
    super(reason);
  }
}

export function endpointOf({ endpoint }: HubOptions): string {
  return (endpoint ?? (Deno.env.get("HF_ENDPOINT") || "https://huggingface.co")).replace(/\/+$/, "");
}

/**
 * Runs `attempt` until it succeeds, or has failed {@linkcode TRIES} times since it last came further.
 *
 * @param tries Tries before it first came further.
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
 * One request, whose body is read before it counts as answered.
 *
 * @param read Takes the response; `alive` is to be called whenever bytes have come.
 * @throws {TryAgain} If nothing comes, the connection breaks, or the server asks for patience (429, 5xx).
 * @throws {UsageError} If the hub refuses.
 */
export async function ask<T>(
  url: string,
  repository: string,
  options: HubOptions,
  init: RequestInit & { readonly headers?: Record<string, string> },
  read: (response: Response, alive: () => void) => Promise<T>,
): Promise<T> {
  const { stallMs = 15_000 } = options, abort = new AbortController();
  const stall = () => abort.abort(new Error(`found no answer for ${stallMs / 1000} s`));
  let timer = setTimeout(stall, stallMs);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(stall, stallMs);
  };
  const token = await findToken();
  try {
    const response = await (options.fetch ?? fetch)(url, {
      ...init,
      signal: abort.signal,
      headers: { ...init.headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
    });
    alive();
    const isRedirect = init.redirect === "manual" && response.status >= 300 && response.status < 400;
    if (response.ok || isRedirect) return await read(response, alive);
    await response.body?.cancel();
    throw refusal(response, url, repository, token !== undefined, options);
  } catch (error) {
    const reason = abort.signal.aborted ? abort.signal.reason as Error : error;
    if (!abort.signal.aborted && !BROKEN.some((type) => error instanceof type)) throw error;
    throw new TryAgain((reason as Error).message.replaceAll(/\s+/g, " ").trim());
  } finally {
    clearTimeout(timer);
  }
}

/** How a broken connection shows itself; a SyntaxError is JSON that has been cut short. */
const BROKEN = [
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
          : `found that it wants a token (or has no such repository): accept the licence at ${page}, make a token in the hub's settings and set HF_TOKEN`,
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

/** The user's token: `HF_TOKEN`, else what the hub's own tools have stored. */
async function findToken(): Promise<string | undefined> {
  const set = Deno.env.get("HF_TOKEN") ?? Deno.env.get("HUGGING_FACE_HUB_TOKEN");
  if (set !== undefined) return set.trim() || undefined;
  const path = Deno.env.get("HF_TOKEN_PATH") ?? `${hfHome()}/token`;
  return await Deno.readTextFile(path).then((text) => text.trim() || undefined, () => undefined);
}

export function hfHome(): string {
  const home = Deno.env.get("HF_HOME");
  if (home) return home;
  return `${Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? ""}/.cache`}/huggingface`;
}
