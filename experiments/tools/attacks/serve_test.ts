/** `deno task serve` with clients of which some do not read, leave, or send half of a request. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { spawnTask } from "../../commands/testing.ts";

Deno.test({
  ...unless(
    IN_SLOW_TIER,
    "serve answers six clients as one alone, beside one that does not read and one that leaves",
  ),
  async fn() {
    const child = await spawnTask("serve", ["--port", "0", "--threads", "1", "--quiet", "--preset", "keys"]);
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let line = "";
    while (!line.includes("\n")) line += (await reader.read()).value!;
    const url = line.match(/http:\S+(?=\/v1)/)![0], port = Number(new URL(url).port);
    const headers = { "content-type": "application/json" };
    const ask = (more: object, signal?: AbortSignal) =>
      fetch(`${url}/v1/completions`, {
        method: "POST",
        headers,
        body: JSON.stringify({ model: "tiny", max_tokens: 20, temperature: 0, ignore_eos: true, ...more }),
        ...(signal && { signal }),
      });
    const health = async () => await (await fetch(`${url}/health`)).json();
    const prompts = Array.from({ length: 6 }, (_, i) => `${i} It was a dark night`);
    const text = async (prompt: string) => (await (await ask({ prompt })).json()).choices[0].text as string;
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await text(prompt));

    const half = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    const utf8 = new TextEncoder(), open: Deno.Conn[] = [];
    const connect = async (words: string) => {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port });
      await connection.write(utf8.encode(words));
      open.push(connection);
      return connection;
    };
    // Each text begins with about 800 kB, so the system's buffer for a reader is soon full.
    const ids = Array.from({ length: 500 }, (_, i) => 100 + i);
    const body = JSON.stringify({
      ...{ model: "tiny", prompt: ids, n: 100, max_tokens: 1, echo: true, logprobs: 20, stream: true },
    });
    const silent = await connect(`${half}Content-Length: ${body.length}\r\n\r\n${body}`);
    for (let i = 0; i < 40; i++) await connect(`${half}Content-Length: 5000\r\n\r\n{`);
    const heads = await Promise.all(Array.from({ length: 40 }, () => connect(half)));
    let rounds = 0, dropped = false;
    // Until the silent one is dropped, and once more.
    for (let last = false; !last; rounds++) {
      last = dropped;
      const leaving = new AbortController();
      const left = ask({ prompt: "It", max_tokens: 400, user: "x".repeat(3000) }, leaving.signal)
        .then((answer) => answer.text()).catch(() => "left");
      const texts = Promise.all(prompts.map(text));
      leaving.abort();
      assertEquals([await texts, await left], [alone, "left"]);
      dropped = (await health()).running === 0;
      assert(rounds < 2000, "a client that reads nothing is dropped after 10 s");
    }
    // The model hears between two tokens that the last round's client has left.
    for (const began = performance.now(); (await health()).running > 0 && performance.now() < began + 2000;);
    assertEquals(await health(), { status: "ok", running: 0, waiting: 0 });
    for (const head of heads) {
      assertMatch(await new Response(head.readable).text(), /^HTTP\/1.1 408 /);
      open.splice(open.indexOf(head), 1);
    }
    silent.close();
    for (const connection of open.slice(1)) connection.close();
    child.kill("SIGINT");
    assertEquals((await child.status).code, 0);
    await reader.cancel();
    assertMatch(
      await new Response(child.stderr).text(),
      /^(Dropped a client that read nothing for 10 s\n)?$/,
    );
  },
});
