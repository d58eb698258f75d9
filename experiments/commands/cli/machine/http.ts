/**
 * Serving HTTP with limits of time. `Deno.serve` has none (2.9): half of a request's head keeps its connection open
 * for ever. The server of `node:http` has them, and its requests and responses become the web's here.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

/** Milliseconds in which a request's head must be whole, and for which a connection may be idle between requests. */
const HEAD_MS = 10_000, IDLE_MS = 30_000;
/** Milliseconds in which a whole request must come; a handler may have a shorter limit. */
const REQUEST_MS = 60_000;
/** Number of checks for late clients during HEAD_MS. */
const LOOKS = 10;

export interface HttpOptions {
  readonly hostname: string;
  /** 0 = any that is free. */
  readonly port: number;
  readonly headMs?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  /** Accepts nothing more, and waits until all is answered. */
  shutdown(): Promise<void>;
}

/** A part of an address with its percent-encoding decoded; the text itself if the encoding is invalid. */
export function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function readRequest(incoming: IncomingMessage, hostname: string): Request {
  const { method = "GET", url = "/", headers } = incoming;
  const at = url.startsWith("/") ? `http://${headers.host ?? hostname}${url}` : url;
  const hasBody = method !== "GET" && method !== "HEAD";
  return new Request(at, {
    method,
    headers: new Headers(headers as Record<string, string>),
    ...(hasBody && { body: ReadableStream.from(incoming.iterator({ destroyOnReturn: false })) }),
  });
}

async function send(incoming: IncomingMessage, outgoing: ServerResponse, response: Response): Promise<void> {
  const { status, body, headers } = response;
  incoming.resume(); // discards an unread body, so that its sender does not wait
  outgoing.writeHead(status, [...headers].flat());
  outgoing.flushHeaders();
  if (body === null) outgoing.end();
  else await pipeline(Readable.fromWeb(body as never), outgoing);
}

/**
 * Serves HTTP until it is shut down. Clients whose head does not come, or that are idle, are dropped.
 *
 * @param handle Answers; where a client leaves, the body of its answer is cancelled.
 * @throws {Error} If the address cannot be had; its message is one line.
 */
export async function serveHttp(
  { hostname, port, headMs = HEAD_MS }: HttpOptions,
  handle: (request: Request) => Response | Promise<Response>,
): Promise<HttpServer> {
  const limits = {
    headersTimeout: headMs,
    requestTimeout: Math.max(REQUEST_MS, headMs),
    keepAliveTimeout: IDLE_MS,
    connectionsCheckingInterval: headMs / LOOKS,
  };
  const reply = async (incoming: IncomingMessage): Promise<Response> => {
    let request: Request;
    try {
      request = readRequest(incoming, hostname);
    } catch {
      return new Response("Cannot read the request.\n", { status: 400 });
    }
    try {
      return await handle(request);
    } catch (error) {
      console.error(error);
      return new Response("Cannot answer: an error of this server.\n", { status: 500 });
    }
  };
  const server = createServer(limits, async (incoming, outgoing) => {
    await send(incoming, outgoing, await reply(incoming)).catch(() => {}); // the client has left, or the answer broke off
    if (!server.listening) server.closeIdleConnections();
  });
  Deno.listen({ hostname, port }).close(); // an error of the system names the reason
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, hostname, resolve);
  await promise;
  const shutdown = async () => {
    const closed = Promise.withResolvers<void>();
    server.close(() => closed.resolve());
    server.closeIdleConnections();
    await closed.promise;
  };
  const { address, port: own } = server.address() as AddressInfo;
  return { hostname: address, port: own, shutdown, [Symbol.asyncDispose]: shutdown };
}
