/** The HTTP thread: it checks tokens, reads requests, and notices clients that leave. It never waits for the model. */
import { OWN_NAMES, sameSecret } from "../cli/flags/token.ts";
import { decodePercent } from "../cli/machine/http.ts";
import {
  type Asked,
  type AskedKind,
  type FromClient,
  type Refusal,
  RefusedError,
  type ServerState,
  type ToClient,
} from "./messages.ts";
import { renderMetrics } from "./metrics.ts";

/** Most bytes of a request's body: a prompt of a million token ids takes about 6 MB. */
const MAX_BODY = 8_000_000;

interface HandlerOptions {
  /** Names that clients ask for. */
  readonly models: readonly string[];
  readonly token: string | undefined;
  /** Gives a request to the model. */
  readonly ask: (asked: Asked) => void;
  readonly state: () => ServerState;
  /** Milliseconds within which a request's body must come, and a part of its answer be read. */
  readonly patienceMs?: { readonly body: number; readonly read: number };
}

const refuse = (status: number, message: string) => new RefusedError(message, null, status);

/** Status of an answer that no process reads. */
const CLIENT_LEFT = 499;

export function createHandler(given: HandlerOptions): (request: Request) => Promise<Response> {
  const options = { patienceMs: { body: 30_000, read: 10_000 }, ...given };
  const statuses = new Map<number, number>();
  return async (request) => {
    const response = await route(request, options, statuses).catch((error) => {
      if (error instanceof RefusedError) return refusalResponse(error.refusal);
      throw error;
    });
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
    return response;
  };
}

/** An error as OpenAI's clients read it. */
function refusalResponse({ status, message, param = null }: Refusal): Response {
  if (status === CLIENT_LEFT) return new Response(null, { status });
  const type = status >= 500 ? "server_error" : "invalid_request_error";
  const headers: HeadersInit = status === 429 ? { "retry-after": "1" } : {};
  return Response.json({ error: { message, type, param, code: null } }, { status, headers });
}

/** Refuses requests without the token; if there is none, pages of other sites that use a host name of their own. */
function expectAllowed(request: Request, token: string | undefined): void {
  if (token === undefined) {
    if (OWN_NAMES.has(new URL(request.url).hostname)) return;
    throw refuse(403, "Cannot answer under this name: expected 127.0.0.1 or localhost");
  }
  if (sameSecret(request.headers.get("authorization") ?? "", `Bearer ${token}`)) return;
  throw refuse(401, "Cannot answer: expected the server's token, as Authorization: Bearer TOKEN");
}

const KINDS: { readonly [path: string]: AskedKind } = {
  "/v1/completions": "text",
  "/v1/chat/completions": "chat",
  "/tokenize": "tokenize",
  "/detokenize": "detokenize",
};

async function route(
  request: Request,
  options: Required<HandlerOptions>,
  statuses: ReadonlyMap<number, number>,
): Promise<Response> {
  expectAllowed(request, options.token);
  const { pathname } = new URL(request.url), { models, state } = options;
  const expectMethod = (method: string) => {
    if (request.method === method) return;
    throw refuse(405, `Cannot ${request.method} ${pathname}: expected ${method}`);
  };
  if (Object.hasOwn(KINDS, pathname)) {
    expectMethod("POST");
    return await answer(KINDS[pathname]!, request, options);
  }
  const describe = (id: string) => ({ id, object: "model", created: 0, owned_by: "tokenfilter" });
  const pages: { readonly [path: string]: () => Response } = {
    "/health": () => Response.json({ status: "ok", running: state().running, waiting: state().waiting }),
    "/metrics": () =>
      new Response(renderMetrics(state(), statuses), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      }),
    "/v1/models": () => Response.json({ object: "list", data: models.map(describe) }),
    ...Object.fromEntries(models.map((id) => [`/v1/models/${id}`, () => Response.json(describe(id))])),
  };
  const path = decodePercent(pathname); // clients encode the slash of a model's name
  if (Object.hasOwn(pages, path)) {
    expectMethod("GET");
    return pages[path]!();
  }
  const expected = path.startsWith("/v1/models/")
    ? Object.keys(pages).filter((page) => page.startsWith("/v1/models/"))
    : [...Object.keys(KINDS), "/v1/models", "/health", "/metrics"];
  throw refuse(404, `Cannot find ${pathname}: there are ${expected.join(", ")}`);
}

/** Levels of a request's JSON; messages between threads cannot be nested much deeper. */
const MAX_LEVELS = 100;

function expectShallow(value: unknown, levels = MAX_LEVELS): void {
  if (typeof value !== "object" || value === null) return;
  if (levels === 0) {
    throw refuse(400, `Cannot read the request: its JSON is nested more than ${MAX_LEVELS} levels deep`);
  }
  for (const each of Array.isArray(value) ? value : Object.values(value)) expectShallow(each, levels - 1);
}

async function readBody(request: Request, patienceMs: number): Promise<unknown> {
  // A page of another site cannot send this type without asking first, which is not allowed.
  if (!/^application\/json\s*(;|$)/i.test(request.headers.get("content-type") ?? "")) {
    throw refuse(415, "Cannot read the request: expected Content-Type: application/json");
  }
  const late = Promise.withResolvers<never>(),
    timer = setTimeout(() => {
      late.reject(refuse(408, `Cannot read the request: it did not come within ${patienceMs / 1000} s`));
    }, patienceMs);
  const reader = (request.body ?? new Blob().stream()).getReader(),
    utf8 = new TextDecoder("utf-8", { fatal: true });
  let text = "", size = 0;
  const take = (bytes?: Uint8Array) => {
    try {
      text += utf8.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw refuse(400, "Cannot read the request: it is not UTF-8");
    }
  };
  const left = () => {
    throw refuse(CLIENT_LEFT, "the client left while it sent its request");
  };
  try {
    for (;;) {
      const { value, done } = await Promise.race([reader.read().catch(left), late.promise]);
      if (done) break;
      size += value.length;
      if (size > MAX_BODY) throw refuse(413, `Cannot read a request of more than ${MAX_BODY} bytes`);
      take(value);
    }
    take();
    const body = JSON.parse(text);
    expectShallow(body);
    return body;
  } catch (error) {
    throw error instanceof SyntaxError ? refuse(400, "Cannot read the request: it is not JSON") : error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The model's answer, which begins once the model has taken the request. It is a stream, whatever the client asked for:
 * only its `cancel()` reports every client that leaves. A request's signal reports it only for requests of up to about
 * 500 bytes.
 */
async function answer(
  kind: AskedKind,
  request: Request,
  { ask, patienceMs }: Required<HandlerOptions>,
): Promise<Response> {
  const body = await readBody(request, patienceMs.body), begun = Promise.withResolvers<Response>();
  const { port1: model, port2: client } = new MessageChannel(),
    say = (word: FromClient) => model.postMessage(word);
  const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>>(),
    writer = writable.getWriter();
  const utf8 = new TextEncoder();
  const leave = () => {
    say("left");
    model.close();
  };
  writer.closed.then(() => model.close(), leave);
  let written = Promise.resolve();
  const write = async (part: string) => {
    const timer = setTimeout(() => {
      leave(); // at once: an abort waits for the write that does not end
      void writer.abort(`Dropped a client that read nothing for ${patienceMs.read / 1000} s`);
    }, patienceMs.read);
    await writer.write(utf8.encode(part)).finally(() => clearTimeout(timer));
    say("read");
  };
  /** Runs a step after all earlier parts. `closed` reports a client that has left. */
  const then = (step: () => Promise<void>) => written = written.then(step).catch(() => {});
  model.onmessage = ({ data }: MessageEvent<ToClient>) => {
    if ("part" in data) then(() => write(data.part));
    else if ("begins" in data) {
      const headers = { "content-type": `${data.begins}; charset=utf-8`, "cache-control": "no-cache" };
      begun.resolve(new Response(readable, { headers }));
    } else if ("refused" in data) {
      model.close();
      begun.resolve(refusalResponse(data.refused));
    } else then(() => data.ends === "whole" ? writer.close() : writer.abort("Broke off an answer"));
  };
  ask({ kind, body, client });
  return await begun.promise;
}
