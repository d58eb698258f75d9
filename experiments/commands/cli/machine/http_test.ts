import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NOT_ON_WINDOWS, unless } from "../../../../lib/testing.ts";
import { serveHttp } from "./http.ts";

const ADDRESS = { hostname: "127.0.0.1", port: 0 };
const utf8 = new TextEncoder();

/** Sends words as they are, and reads all that comes until the server closes. */
async function say(port: number, words: string): Promise<string> {
  using connection = await Deno.connect({ ...ADDRESS, port });
  if (words !== "") await connection.write(utf8.encode(words));
  return await new Response(connection.readable).text();
}

Deno.test("serveHttp() drops clients whose head does not come, and answers others meanwhile", async () => {
  await using server = await serveHttp({ ...ADDRESS, headMs: 700 }, () => new Response("yes"));
  const late = "HTTP/1.1 408 Request Timeout\r\n", whole = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const silent = Array.from(
    { length: 20 },
    (_, i) => say(server.port, i % 2 === 0 ? "" : whole.slice(0, 20)),
  );
  const second = say(server.port, `${whole}GET / HT`);
  const response = await fetch(`http://127.0.0.1:${server.port}/`);
  assertEquals([response.status, await response.text()], [200, "yes"]);
  for (const said of await Promise.all(silent)) assert(said.startsWith(late), said);
  assertMatch(await second, /^HTTP\/1.1 200 OK\r\n[^]*yes/);
});

Deno.test("serveHttp() gives requests as they were sent, and answers as they were made", async () => {
  await using server = await serveHttp(ADDRESS, async (request) => {
    const { method, url, headers } = request;
    const more = [["set-cookie", "a=1"], ["set-cookie", "b=2"]] as [string, string][];
    const body = request.body === null ? null : await request.text();
    return Response.json({ method, url, own: headers.get("x-own"), body }, { status: 201, headers: more });
  });
  const at = `http://127.0.0.1:${server.port}`, body = "ä".repeat(1e5);
  const response = await fetch(`${at}//a/%2f?b=c`, { method: "POST", headers: { "x-own": "1, 2" }, body });
  assertEquals([response.status, response.headers.getSetCookie()], [201, ["a=1", "b=2"]]);
  assertEquals(await response.json(), { method: "POST", url: `${at}//a/%2f?b=c`, own: "1, 2", body });
  assertEquals(await (await fetch(at)).json(), { method: "GET", url: `${at}/`, own: null, body: null });
  const end = "Connection: close\r\n\r\n";
  assertMatch(
    await say(server.port, `GET http://other/x HTTP/1.1\r\nHost: a\r\n${end}`),
    /"http:\/\/other\/x"/,
  );
  for (const head of ["GET / HTTP/1.1\r\nHost: [x\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\n", "rubbish\r\n"]) {
    assertMatch(await say(server.port, head + end), /^HTTP\/1.1 400 /, head);
  }
});

Deno.test("serveHttp() tells of a client that leaves, and refuses a body without reading it", async () => {
  const cancelled = Promise.withResolvers<void>();
  await using server = await serveHttp(ADDRESS, ({ method }) => {
    if (method === "POST") return new Response("too much", { status: 413 });
    return new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(utf8.encode("begun")),
        cancel: () => cancelled.resolve(),
      }),
    );
  });
  const at = `http://127.0.0.1:${server.port}/`, leaving = new AbortController();
  const answer = await fetch(at, { signal: leaving.signal }), reader = answer.body!.getReader();
  assertEquals((await reader.read()).value, utf8.encode("begun"));
  leaving.abort();
  await cancelled.promise;
  const refused = await fetch(at, { method: "POST", body: new Uint8Array(2e7) });
  assertEquals([refused.status, await refused.text()], [413, "too much"]);
});

Deno.test("serveHttp() ends once all is answered, and says why an address cannot be had", async () => {
  const end = Promise.withResolvers<void>();
  const server = await serveHttp(ADDRESS, () =>
    new Response(
      new ReadableStream({
        async start(controller) {
          controller.enqueue(utf8.encode("a"));
          await end.promise;
          controller.enqueue(utf8.encode("b"));
          controller.close();
        },
      }),
    ));
  const taken = { ...ADDRESS, port: server.port };
  await assertRejects(() => serveHttp(taken, () => new Response()), Deno.errors.AddrInUse, "already in use");
  const answer = await fetch(`http://127.0.0.1:${server.port}/`);
  const ended = server.shutdown();
  await assertRejects(() => fetch(`http://127.0.0.1:${server.port}/`), TypeError);
  end.resolve();
  assertEquals(await answer.text(), "ab");
  await ended;
});

Deno.test("serveHttp() answers a client that has closed its half, and tells at once of one that has left", async () => {
  for (const type of ["application/json", "text/event-stream"]) {
    const cancelled = Promise.withResolvers<void>(), end = Promise.withResolvers<void>();
    await using server = await serveHttp(ADDRESS, () => {
      const body = new ReadableStream({
        async start(controller) {
          await end.promise;
          controller.enqueue(utf8.encode("{}"));
          controller.close();
        },
        cancel: () => cancelled.resolve(),
      });
      return new Response(body, { headers: { "content-type": `${type}; charset=utf-8` } });
    });
    const ask = async () => {
      const connection = await Deno.connect({ ...ADDRESS, port: server.port });
      const body = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
      await connection.write(utf8.encode(body));
      return connection;
    };
    (await ask()).close();
    await cancelled.promise;
    using half = await ask();
    await half.closeWrite();
    const answer = new Response(half.readable).text();
    setTimeout(end.resolve, 50);
    assertMatch(await answer, /^HTTP\/1.1 200 OK[^]*\{\}/);
  }
});

Deno.test("serveHttp() answers a hundred requests of a connection", async () => {
  let asked = 0;
  await using server = await serveHttp(ADDRESS, () => new Response(String(++asked)));
  using connection = await Deno.connect({ ...ADDRESS, port: server.port });
  await connection.write(utf8.encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(120)));
  const reader = connection.readable.pipeThrough(new TextDecoderStream()).getReader();
  let said = "", statuses: string[] = [];
  while (statuses.length < 120) {
    said += (await reader.read()).value;
    statuses = said.match(/^HTTP\/1.1 \d+/gm) ?? [];
  }
  await reader.cancel();
  assertEquals([asked, statuses.filter((status) => status.endsWith("200")).length], [100, 100]);
});

Deno.test("serveHttp() does not take a busy thread for one that accepts no connection", async () => {
  await using server = await serveHttp({ ...ADDRESS, checkMs: 100 }, () => new Response("yes"));
  let isDeaf = false;
  void server.deaf.then(() => isDeaf = true);
  for (let i = 0; i < 6; i++) {
    for (const end = performance.now() + 150; performance.now() < end;);
    await new Promise((resolve) => setTimeout(resolve));
  }
  assertEquals(isDeaf, false);
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "serveHttp() tells when it accepts no connection any more, as after too many"),
  fn: async () => {
    const program = `
      import { serveHttp } from ${JSON.stringify(import.meta.resolve("./http.ts"))};
      const server = await serveHttp({ hostname: "127.0.0.1", port: 0, checkMs: 300 }, () => new Response("yes"));
      console.log(server.port);
      console.log(await server.deaf);
      Deno.exit();`;
    const run = ["-c", 'ulimit -n 64; exec "$0" eval --no-config "$1"', Deno.execPath(), program];
    const child = new Deno.Command("bash", { args: run, stdout: "piped", stderr: "null" }).spawn();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const port = Number((await lines.read()).value);
    const answer = async () => await (await fetch(`http://127.0.0.1:${port}/`)).text();
    assertEquals(await answer(), "yes");
    await new Promise((resolve) => setTimeout(resolve, 1200)); // checks of a sound server
    assertEquals(await answer(), "yes");
    const many = await Promise.all(Array.from({ length: 100 }, () => Deno.connect({ ...ADDRESS, port })));
    await new Promise((resolve) => setTimeout(resolve, 500));
    many.forEach((connection) => connection.close());
    assertMatch((await lines.read()).value!, /^the server accepts no connection any more/);
    await lines.cancel();
    await child.status;
  },
});
