/**
 * Serving HTTP with limits of time. `Deno.serve` has none (2.9): half of a request's head keeps its connection open
 * for ever. The server of `node:http` has them, and its requests and responses become the web's here.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

/** Milliseconds in which a request's head must be whole, and for which a connection may be idle between requests. */
const HEAD_MS = 10_000, IDLE_MS = 30_000;
/** Milliseconds in which a whole request must come; a handler may have a shorter limit. */
const REQUEST_MS = 60_000;
/** Number of checks for late clients during HEAD_MS. */
const LOOKS = 10;
/** Requests that a connection may send: a client that sends many and reads no answer would fill the memory. */
const MAX_REQUESTS = 100;
/** Milliseconds between checks that connections are accepted, and how many may fail. */
const CHECK_MS = 2_000, MISSES = 2;
/**
 * Empty parts of answers that are still made, by their type, and milliseconds between them. They are sent when the client
 * sends no more: one that has left resets the connection, and one that has closed only its half gets the answer. Answers of other types
 * end then.
 */
const PROBE_MS = 100;
const PROBES: { readonly [type: string]: string } = { "application/json": " ", "text/event-stream": ":\n\n" };

interface HttpOptions {
  readonly hostname: string;
  /** 0 = any that is free. */
  readonly port: number;
  readonly headMs?: number;
  readonly checkMs?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  /**
   * Resolves with a line where connections are accepted no more. A process that has run out of file handles once is in
   * this state for ever (Deno 2.9).
   */
  readonly deaf: Promise<string>;
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
  if (body === null) {
    outgoing.end();
    return;
  }
  const probe = PROBES[headers.get("content-type")?.split(";")[0] ?? ""], { socket } = incoming;
  const timer = setInterval(() => {
    if (!socket.readableEnded || outgoing.writableEnded) return;
    if (probe === undefined) outgoing.destroy();
    else outgoing.write(probe);
  }, PROBE_MS);
  await pipeline(Readable.fromWeb(body as never), outgoing).finally(() => clearInterval(timer));
}

/** Checks from time to time that a server accepts a connection. @returns The checks' end, and what resolves where it does not. */
function watch(server: Server, { address, port }: AddressInfo, checkMs: number) {
  const { promise, resolve } = Promise.withResolvers<string>();
  let accepted = 0, misses = 0;
  server.on("connection", () => accepted++);
  const check = async () => {
    const before = accepted;
    const connection = await Deno.connect({ hostname: address, port }).catch(() => undefined); // no handle is left
    await new Promise((resolve) => setTimeout(resolve, checkMs / 2));
    connection?.close();
    misses = accepted > before ? 0 : misses + 1;
    if (misses >= MISSES) {
      resolve("the server accepts no connection any more (raise the limit of open files: ulimit -n)");
    }
  };
  const timer = setInterval(() => void check(), checkMs);
  Deno.unrefTimer(timer as unknown as number);
  return { deaf: promise, end: () => clearInterval(timer) };
}

/**
 * Serves HTTP until it is shut down. Clients whose head does not come, or that are idle, are dropped.
 *
 * @param handle Answers; where a client leaves, the body of its answer is cancelled.
 * @throws {Error} If the address cannot be had; its message is one line.
 */
export async function serveHttp(
  { hostname, port, headMs = HEAD_MS, checkMs = CHECK_MS }: HttpOptions,
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
  const latest = new WeakMap<Socket, IncomingMessage>();
  const server = createServer(limits, async (incoming, outgoing) => {
    latest.set(incoming.socket, incoming);
    await send(incoming, outgoing, await reply(incoming)).catch(() => {}); // the client has left, or the answer broke off
    if (!server.listening) server.closeIdleConnections();
  });
  server.on("connection", (socket) =>
    socket.once("end", () => {
      const last = latest.get(socket);
      if (last?.complete === false) last.destroy(new Error("the client has left"));
    }));
  server.maxRequestsPerSocket = MAX_REQUESTS;
  Object.assign(server, { httpAllowHalfOpen: true });
  Deno.listen({ hostname, port }).close(); // an error of the system names the reason
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, hostname, resolve);
  await promise;
  const at = server.address() as AddressInfo, { deaf, end } = watch(server, at, checkMs);
  const shutdown = async () => {
    end();
    const closed = Promise.withResolvers<void>();
    server.close(() => closed.resolve());
    server.closeIdleConnections();
    await closed.promise;
  };
  return { hostname: at.address, port: at.port, deaf, shutdown, [Symbol.asyncDispose]: shutdown };
}
