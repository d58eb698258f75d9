/** The server: who may ask, what for, and when it is their turn. */
import { timingSafeEqual } from "node:crypto";
import { type AnswerHead, streamedEnd, streamedPart, wholeAnswer, type WholeText } from "./answers.ts";
import { complete, type Engine, type ScoredToken, type TextEnd, type TextPiece } from "./completion.ts";
import { QueueFullError, TurnQueue } from "./queue.ts";
import { type CompletionRequest, readRequest, RequestError } from "./request.ts";

/** Most bytes of a request's body: a prompt of a million token ids takes some 6 MB. */
const MAX_BODY = 8_000_000;

interface ServerOptions {
  /** Engines by the names that clients ask for. */
  readonly engines: ReadonlyMap<string, Engine>;
  /** What every request must show; undefined: requests to this machine's own addresses need none. */
  readonly token: string | undefined;
  readonly queue: number;
  /** Told of errors that are the server's own. */
  readonly onError: (error: unknown) => void;
}

/** Names under which this machine reaches itself. */
const OWN_NAMES = new Set(["127.0.0.1", "localhost", "[::1]"]);

export function createHandler(options: ServerOptions): (request: Request) => Promise<Response> {
  const queue = new TurnQueue(options.queue);
  return async (request) => {
    try {
      expectAllowed(request, options.token);
      return await route(request, options, queue);
    } catch (error) {
      return refuse(error, options);
    }
  };
}

/** Refuses who has no token, and pages of other sites that reach this machine through a name of their own. */
function expectAllowed(request: Request, token: string | undefined): void {
  if (token === undefined) {
    if (OWN_NAMES.has(new URL(request.url).hostname)) return;
    throw new RequestError("Cannot answer under this name: expected 127.0.0.1 or localhost", null, 403);
  }
  const utf8 = new TextEncoder(), want = utf8.encode(`Bearer ${token}`);
  const given = utf8.encode(request.headers.get("authorization") ?? "");
  if (given.length !== want.length || !timingSafeEqual(given, want)) {
    throw new RequestError(
      "Cannot answer: expected the server's token, as Authorization: Bearer TOKEN",
      null,
      401,
    );
  }
}

async function route(request: Request, options: ServerOptions, queue: TurnQueue): Promise<Response> {
  const { pathname } = new URL(request.url), names = [...options.engines.keys()];
  const kinds: { readonly [path: string]: CompletionRequest["kind"] } = {
    "/v1/completions": "text",
    "/v1/chat/completions": "chat",
  };
  const expectMethod = (method: string) => {
    if (request.method === method) return;
    throw new RequestError(`Cannot ${request.method} ${pathname}: expected ${method}`, null, 405);
  };
  if (Object.hasOwn(kinds, pathname)) {
    expectMethod("POST");
    return await answer(kinds[pathname]!, request, options, queue);
  }
  if (pathname === "/health" || pathname === "/v1/models") {
    expectMethod("GET");
    const data = names.map((id) => ({ id, object: "model", created: 0, owned_by: "tokenfilter" }));
    return Response.json(
      pathname === "/health" ? { status: "ok", waiting: queue.length } : { object: "list", data },
    );
  }
  throw new RequestError(
    `Cannot find ${pathname}: there are /v1/completions, /v1/chat/completions, /v1/models and /health`,
    null,
    404,
  );
}

async function readBody(request: Request): Promise<unknown> {
  // A page of another site cannot send this type without asking first, which is not allowed.
  if (!/^application\/json\b/.test(request.headers.get("content-type") ?? "")) {
    throw new RequestError("Cannot read the request: expected Content-Type: application/json", null, 415);
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const part of request.body ?? []) {
    size += part.length;
    if (size > MAX_BODY) {
      throw new RequestError(`Cannot read a request of more than ${MAX_BODY} bytes`, null, 413);
    }
    parts.push(part);
  }
  try {
    return JSON.parse(await new Blob(parts).text());
  } catch {
    throw new RequestError("Cannot read the request: it is not JSON");
  }
}

async function answer(
  kind: CompletionRequest["kind"],
  http: Request,
  { engines, onError }: ServerOptions,
  queue: TurnQueue,
): Promise<Response> {
  const body = await readBody(http), [first] = engines.values();
  const { config } = first!.model;
  const request = readRequest(kind, body, first!.tokenizer, {
    context: config.contextLength,
    vocabSize: config.vocabSize,
  });
  const engine = engines.get(request.model);
  if (engine === undefined) {
    const known = [...engines.keys()].map((name) => `"${name}"`).join(" or ");
    throw new RequestError(`Cannot use model "${request.model}": expected ${known}`, "model", 404);
  }
  const head: AnswerHead = {
    id: `${kind === "text" ? "cmpl" : "chatcmpl"}-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: request.model,
  };
  // Deno aborts a request's signal when it has been answered, too: it is listened to no longer than until then.
  const leaving = new AbortController(), { signal } = leaving, leave = () => leaving.abort();
  http.signal.addEventListener("abort", leave);
  try {
    const turn = await queue.take(signal);
    if (request.stream) {
      return streamAnswer(streamParts(head, engine, request, signal), leaving, turn, onError);
    }
    using _ = turn;
    const texts = await makeTexts(engine, request, signal);
    return Response.json(wholeAnswer(head, request, engine.tokenizer, texts));
  } finally {
    http.signal.removeEventListener("abort", leave);
  }
}

/** Parts of an answer as events, while somebody reads them; then the turn is over. */
function streamAnswer(
  parts: AsyncGenerator<unknown, void>,
  leaving: AbortController,
  turn: Disposable,
  onError: ServerOptions["onError"],
): Response {
  const utf8 = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { value, done } = await parts.next();
        if (leaving.signal.aborted) return; // its reader left meanwhile: cancel() ends the turn
        controller.enqueue(utf8.encode(`data: ${done ? "[DONE]" : JSON.stringify(value)}\n\n`));
        if (!done) return;
        controller.close();
      } catch (error) {
        if (!isAbort(error)) onError(error);
        controller.error(error);
      }
      turn[Symbol.dispose]();
    },
    async cancel() {
      leaving.abort();
      await parts.return();
      turn[Symbol.dispose]();
    },
  }, { highWaterMark: 0 });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" },
  });
}

/** Each text of a request: a prompt, and which of the texts for it. */
const textsOf = ({ prompts, n }: CompletionRequest) =>
  prompts.flatMap((prompt) => Array.from({ length: n }, (_, copy) => ({ prompt, copy })));

async function makeTexts(
  engine: Engine,
  request: CompletionRequest,
  signal: AbortSignal,
): Promise<WholeText[]> {
  const texts: WholeText[] = [];
  for (const { prompt, copy } of textsOf(request)) {
    const pieces = complete(engine, request, prompt, copy, signal), tokens: ScoredToken[] = [];
    let text = "", step: IteratorResult<TextPiece, TextEnd>;
    while (!(step = await pieces.next()).done) {
      text += step.value.text;
      tokens.push(...step.value.tokens);
    }
    texts.push({ text, tokens, end: step.value });
  }
  return texts;
}

async function* streamParts(
  head: AnswerHead,
  engine: Engine,
  request: CompletionRequest,
  signal: AbortSignal,
): AsyncGenerator<unknown, void> {
  const ends: TextEnd[] = [];
  for (const [index, { prompt, copy }] of textsOf(request).entries()) {
    const pieces = complete(engine, request, prompt, copy, signal);
    const part = (piece: TextPiece & { finish?: TextEnd["finish"] }, offset: number) =>
      streamedPart(head, request, engine.tokenizer, index, piece, offset);
    let offset = 0;
    try {
      let step: IteratorResult<TextPiece, TextEnd>;
      while (!(step = await pieces.next()).done) {
        yield part(step.value, offset);
        offset += step.value.text.length;
      }
      ends.push(step.value);
      yield part({ text: "", tokens: [], finish: step.value.finish }, offset);
    } finally {
      await pieces.return(undefined as never);
    }
  }
  if (request.includeUsage) yield streamedEnd(head, request, ends);
}

/** Whether an error says that a client has left. */
const isAbort = (error: unknown) => error instanceof DOMException && error.name === "AbortError";

/** An error as OpenAI's clients read it. */
function refuse(error: unknown, { onError }: ServerOptions): Response {
  const answer = (status: number, message: string, param: string | null = null, headers = {}) => {
    const type = status >= 500 ? "server_error" : "invalid_request_error";
    return Response.json({ error: { message, type, param, code: null } }, { status, headers });
  };
  if (error instanceof RequestError) return answer(error.status, error.message, error.param);
  if (error instanceof QueueFullError) return answer(429, error.message, null, { "retry-after": "1" });
  if (isAbort(error)) return new Response(null, { status: 499 });
  onError(error);
  return answer(500, "Cannot answer: the server failed, its log says why");
}
