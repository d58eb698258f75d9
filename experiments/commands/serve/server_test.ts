/**
 * The HTTP thread without a model: which requests it accepts, and how it treats clients that leave, stall or send
 * invalid data.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { serveHttp } from "../cli/machine/http.ts";
import type { Asked, FromClient, ToClient } from "./messages.ts";
import { createHandler } from "./server.ts";

/** A request that the model has been given, seen from the model's side. */
interface Taken extends Asked {
  /** Messages of the client: it has read a part, or has left. */
  readonly words: ReadableStreamDefaultReader<FromClient>;
  say(message: ToClient): void;
}

/** Serves on a free port with a model that the test plays. */
async function withHandler(
  given: Partial<Parameters<typeof createHandler>[0]>,
  test: (
    address: { url: string; port: number },
    next: () => Promise<Taken>,
    statuses: number[],
  ) => Promise<void>,
): Promise<void> {
  const asked = new TransformStream<Taken, Taken>(),
    asks = asked.writable.getWriter(),
    statuses: number[] = [];
  const taken = asked.readable.getReader();
  const handler = createHandler({
    models: ["one", "one/dense"],
    token: undefined,
    state: () => ({ running: 1, waiting: 2, totals: { one: { completion_tokens: 7, queries_skipped: 3 } } }),
    ask(own) {
      const words = new TransformStream<FromClient, FromClient>(), writer = words.writable.getWriter();
      own.client.onmessage = ({ data }) => void writer.write(data);
      void asks.write({
        ...own,
        words: words.readable.getReader(),
        say: (word) => own.client.postMessage(word),
      });
    },
    ...given,
  });
  await using server = await serveHttp({ port: 0, hostname: "127.0.0.1" }, async (request) => {
    const response = await handler(request);
    statuses.push(response.status);
    return response;
  });
  const { port } = server;
  await test({ url: `http://127.0.0.1:${port}`, port }, async () => (await taken.read()).value!, statuses);
}

const post = (url: string, body: BodyInit, signal?: AbortSignal) =>
  fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    ...(signal && { signal }),
  });

Deno.test("the model is told of clients that leave, however long their requests were", () =>
  withHandler({}, async ({ url }, next) => {
    for (const size of [1, 600, 100_000]) {
      for (const begins of ["application/json", "text/event-stream"]) {
        const leaving = new AbortController(), body = JSON.stringify({ user: "x".repeat(size) });
        const answer = post(url, body, leaving.signal), taken = await next();
        assertEquals([taken.kind, taken.body], ["text", JSON.parse(body)]);
        taken.say({ begins });
        assertEquals((await answer).headers.get("content-type"), `${begins}; charset=utf-8`);
        leaving.abort();
        assertEquals((await taken.words.read()).value, "left", `${size}, ${begins}`);
      }
    }
  }));

Deno.test("an answer comes part by part, is acknowledged, and may be refused or break off", () =>
  withHandler({}, async ({ url }, next) => {
    const whole = post(url, "{}"), taken = await next();
    for (
      const message of [{ begins: "text/plain" }, { part: "a" }, { part: "ä" }, { ends: "whole" }] as const
    ) {
      taken.say(message);
    }
    assertEquals(await (await whole).text(), "aä");
    assertEquals([(await taken.words.read()).value, (await taken.words.read()).value], ["read", "read"]);
    const refused = post(url, "{}");
    (await next()).say({ refused: { status: 429, message: "full", param: "n" } });
    const answer = await refused;
    assertEquals([answer.status, answer.headers.get("retry-after")], [429, "1"]);
    assertEquals((await answer.json()).error, {
      message: "full",
      type: "invalid_request_error",
      param: "n",
      code: null,
    });
    const broken = post(url, "{}"), last = await next();
    last.say({ begins: "application/json" });
    last.say({ ends: "broken" });
    const failure = await (await broken).text().then(() => undefined, (error) => error);
    assert(failure instanceof TypeError, "a client is to see that the answer is not whole");
  }));

Deno.test("a client that does not read is dropped, and others are answered meanwhile", () =>
  withHandler({ patienceMs: { body: 5000, read: 50 } }, async ({ url, port }, next) => {
    using silent = await Deno.connect({ hostname: "127.0.0.1", port });
    const request = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
      "Content-Length: 2\r\n\r\n{}";
    await silent.write(new TextEncoder().encode(request));
    const taken = await next(), part = "x".repeat(1 << 20);
    taken.say({ begins: "text/event-stream" });
    let word: FromClient | undefined, parts = 0;
    while (word !== "left") {
      taken.say({ part });
      assert(++parts < 1000, "what the system holds for a client that does not read");
      word = (await taken.words.read()).value;
    }
    const other = post(url, "{}"), own = await next();
    own.say({ begins: "text/plain" });
    own.say({ ends: "whole" });
    assertEquals((await other).status, 200);
    await (await other).text();
  }));

/** A request of which almost all is missing. */
const HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
  "Content-Length: 5000\r\n\r\n{";

Deno.test("what is no request is refused in words, and a client may leave in the middle of one", () =>
  withHandler({}, async ({ url, port }, _next, statuses) => {
    const refused = async (body: BodyInit) => {
      const response = await post(url, body);
      return [response.status, (await response.json()).error.message];
    };
    assertEquals(await refused("{"), [400, "Cannot read the request: it is not JSON"]);
    assertEquals(await refused(Uint8Array.of(0x22, 0xff, 0x22)), [
      400,
      "Cannot read the request: it is not UTF-8",
    ]);
    assertEquals(await refused(Uint8Array.of(0x22, 0xc3)), [400, "Cannot read the request: it is not UTF-8"]);
    const before = statuses.length;
    {
      using leaves = await Deno.connect({ hostname: "127.0.0.1", port });
      await leaves.write(new TextEncoder().encode(HEAD));
    }
    while (statuses.length === before) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(statuses.at(-1), 499);
  }));

Deno.test("a request that stops in the middle is ended after a while", () =>
  withHandler({ patienceMs: { body: 100, read: 5000 } }, async ({ port }) => {
    using slow = await Deno.connect({ hostname: "127.0.0.1", port });
    await slow.write(new TextEncoder().encode(HEAD));
    const answer = new Uint8Array(1000), size = await slow.read(answer);
    assertMatch(
      new TextDecoder().decode(answer.subarray(0, size!)),
      /^HTTP\/1.1 408 .*did not come within 0.1 s/s,
    );
  }));

Deno.test("models, health and metrics are told without the model", () =>
  withHandler({}, async ({ url }) => {
    const get = async (path: string) => {
      const response = await fetch(url + path);
      return [response.status, await response.json()] as const;
    };
    assertEquals(await get("/health"), [200, { status: "ok", running: 1, waiting: 2 }]);
    const model = (id: string) => ({ id, object: "model", created: 0, owned_by: "tokenfilter" });
    assertEquals((await get("/v1/models"))[1].data, [model("one"), model("one/dense")]);
    for (const path of ["one/dense", "one%2Fdense"]) {
      assertEquals(await get(`/v1/models/${path}`), [200, model("one/dense")]);
    }
    const [status, { error }] = await get("/v1/models/two");
    assertEquals([status, error.message], [
      404,
      "Cannot find /v1/models/two: there are /v1/models/one, /v1/models/one/dense",
    ]);
    assertEquals((await get("/v1/models/%ff"))[0], 404);
    const metrics = await fetch(`${url}/metrics`), lines = (await metrics.text()).split("\n");
    assertEquals(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for (
      const line of [
        'tokenfilter_requests_total{status="404"} 2',
        "tokenfilter_texts_running 1",
        "tokenfilter_requests_waiting 2",
        'tokenfilter_completion_tokens_total{model="one"} 7',
        'tokenfilter_queries_skipped_total{model="one"} 3',
        'tokenfilter_kv_bytes_held_total{model="one"} 0',
        "# TYPE tokenfilter_queries_skipped_total counter",
      ]
    ) assert(lines.includes(line), `${line} in ${lines.join("\n")}`);
    // Every family is described before its samples, and every line is one of the three kinds.
    for (const line of lines) {
      assertMatch(line, /^(# HELP \w+ .+|# TYPE \w+ (counter|gauge)|\w+(\{\w+="[^"]*"\})? \d+|)$/);
    }
  }));

Deno.test("a request of another type, or of JSON that is nested too deep, is refused", () =>
  withHandler({}, async ({ url }, next) => {
    const status = async (body: string, type = "application/json") => {
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": type },
        body,
      });
      return [response.status, (await response.json()).error?.message];
    };
    for (const type of ["application/json-evil", "application/jsonx", "text/plain"]) {
      assertEquals((await status("{}", type))[0], 415, type);
    }
    const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
    for (const levels of [101, 5000]) {
      assertEquals(await status(`{"stop": ${nested(levels - 1)}}`), [
        400,
        "Cannot read the request: its JSON is nested more than 100 levels deep",
      ]);
    }
    const answer = status(`{"stop": ${nested(99)}}`, "Application/JSON ; charset=utf-8"),
      taken = await next();
    taken.say({ refused: { status: 400, message: "no" } });
    assertEquals(await answer, [400, "no"]);
  }));
