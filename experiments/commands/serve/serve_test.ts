/** `deno task serve` as clients use it: OpenAI's own, and plain HTTP. */
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { openCpu } from "../../../ffi/mod.ts";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { writeChatModel } from "./chat_testing.ts";
import { finish, runTask, spawnTask, withFolder } from "../testing.ts";

const folder = await Deno.makeTempDir();
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const path = await writeChatModel(folder);
const METHOD = { fusion: "variance", warmup: 8, recent: 4 } as const;
const EXACT = ["--matmul", "exact"]; // our own scoring, which answers are compared with, is exact
const FLAGS = ["--method", "variance", "--warmup", "8", "--recent", "4", ...EXACT];
const PROMPT = "It was a dark night, and the rain fell in torrents upon the old house by the sea";

const loaded = await loadModel(path, await openCpu({ build: true, threads: 1 }));
const { tokenizer, config } = loaded;
const ids = tokenizer.encode(PROMPT);

/** Starts a server, calls the test with its address, and ends it. */
async function withServer(
  args: readonly string[],
  test: (address: string, client: OpenAI) => Promise<void>,
): Promise<void> {
  const child = await spawnTask("serve", [
    "--model",
    path,
    "--port",
    "0",
    "--threads",
    "1",
    "--quiet",
    ...args,
  ]);
  const [first, rest] = child.stdout.tee(), reader = first.getReader();
  let line = "";
  while (!line.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`no server: ${line}${await new Response(child.stderr).text()}`);
    line += new TextDecoder().decode(value);
  }
  const ended = Promise.all([reader.read(), new Response(rest).text(), new Response(child.stderr).text()]);
  const [, address] = line.match(/ on (http:\S+\/v1), until Ctrl-C\n$/)!;
  try {
    await test(address!, new OpenAI({ baseURL: address!, apiKey: "none", maxRetries: 0 }));
  } finally {
    child.kill("SIGINT");
    assertEquals((await child.status).code, 0);
    const [, , stderr] = await ended;
    assertEquals(stderr, "");
  }
}

/** Log-likelihoods of a prompt's tokens by our own scoring. */
function score(filtered: boolean, tokens = ids): number[] {
  const pruner = filtered
    ? createPruner("token-filtering", config, METHOD, { backend: loaded.model.backend })
    : undefined;
  return [...scoreSequence(loaded.model, tokens, pruner).nll].map((loss) => -loss);
}

Deno.test("serve answers OpenAI's client: completions, echo, probabilities, streams, chat", () =>
  withServer(FLAGS, async (_, client) => {
    const models = await client.models.list();
    assertEquals(models.data.map(({ id }) => id), ["chat", "chat/dense"]);
    assertEquals((await client.models.retrieve("chat/dense")).id, "chat/dense");

    for (const model of ["chat", "chat/dense"]) {
      const answer = await client.completions.create({
        ...{ model, prompt: [...ids], max_tokens: 1, temperature: 0, logprobs: 1, echo: true, seed: 1234 },
      });
      const [{ text, logprobs, finish_reason }] = answer.choices as [typeof answer.choices[0]];
      const want = score(model === "chat");
      assert(text.startsWith(PROMPT));
      assertEquals(answer.system_fingerprint, "matmul exact");
      assertEquals([finish_reason, logprobs!.token_logprobs!.length], ["length", ids.length + 1]);
      assertEquals([logprobs!.token_logprobs![0], logprobs!.top_logprobs![0]], [null, null]);
      want.forEach((wanted, i) => {
        const found = logprobs!.token_logprobs![i + 1]!, top = Object.values(logprobs!.top_logprobs![i + 1]!);
        assertAlmostEquals(found, wanted, 1e-4);
        assert(top.length <= 2 && top.includes(found) && Math.max(...top) >= found);
      });
      logprobs!.tokens!.slice(1).forEach((token, i) => {
        const at = logprobs!.text_offset![i + 1]!;
        // tiny puts a space before a text, which the text itself has not.
        assertEquals(` ${text}`.slice(at, at + token.length), token);
      });
      const { usage } = answer as unknown as {
        usage: Record<string, unknown> & { tokenfilter: Record<string, number> };
      };
      assertEquals([usage.prompt_tokens, usage.completion_tokens], [ids.length, 1]);
      const counts = usage.tokenfilter, skips = model === "chat";
      assertEquals([counts.queries_skipped! > 0, counts.attention_flops_avoided! > 0], [skips, skips]);
      assertEquals(counts.queries_dense, config.numLayers * ids.length);
      assertEquals(counts.kv_bytes_held! < counts.kv_bytes_dense!, skips);
    }
    assert(score(true).some((x, i) => Math.abs(x - score(false)[i]!) > 0.01), "the filter is at work");

    const texts = await client.completions.create({
      ...{ model: "chat", prompt: [PROMPT, "Once upon a time"], max_tokens: 12, temperature: 0 },
    });
    assertEquals(texts.choices.map(({ index, logprobs }) => [index, logprobs]), [[0, null], [1, null]]);
    let streamed = "", usage: unknown;
    const stream = await client.completions.create({
      ...{ model: "chat", prompt: PROMPT, max_tokens: 12, temperature: 0, stream: true as const },
      stream_options: { include_usage: true },
    });
    for await (const part of stream) {
      streamed += part.choices[0]?.text ?? "";
      usage = part.usage ?? usage;
    }
    assertEquals([streamed, (usage as { completion_tokens: number }).completion_tokens], [
      texts.choices[0]!.text,
      12,
    ]);
    const word = streamed.trim().split(" ")[2]!;
    const cut = await client.completions.create({
      ...{ model: "chat", prompt: PROMPT, max_tokens: 12, temperature: 0, stop: ["never", word] },
    });
    assertEquals([cut.choices[0]!.text, cut.choices[0]!.finish_reason], [
      streamed.slice(0, streamed.indexOf(word)),
      "stop",
    ]);

    const messages = [{ role: "system" as const, content: "Be brief." }, {
      role: "user" as const,
      content: "Who was it?",
    }];
    const chat = await client.chat.completions.create({
      ...{ model: "chat", messages, max_tokens: 8, temperature: 0, logprobs: true, top_logprobs: 2 },
    });
    const told = await client.completions.create({
      ...{ model: "chat", prompt: "<s>Be brief. Who was it? She said:", max_tokens: 8, temperature: 0 },
    });
    const [choice] = chat.choices as [typeof chat.choices[0]];
    assertEquals([choice.message.role, choice.message.content], ["assistant", told.choices[0]!.text]);
    assertEquals([chat.usage!.prompt_tokens, choice.logprobs!.content!.length], [
      told.usage!.prompt_tokens,
      8,
    ]);
    for (const { logprob, top_logprobs } of choice.logprobs!.content!) {
      assertEquals([top_logprobs.length, top_logprobs[0]!.logprob], [2, logprob]);
    }
    let said = "";
    const roles: unknown[] = [];
    for await (
      const part of await client.chat.completions.create({
        ...{ model: "chat", messages, max_tokens: 8, temperature: 0, stream: true },
      })
    ) {
      said += part.choices[0]!.delta.content ?? "";
      roles.push(part.choices[0]!.delta.role);
    }
    assert(roles.length > 3);
    assertEquals(roles, ["assistant", ...roles.slice(1).fill(undefined)]);
    assertEquals(said, choice.message.content);

    const drawn = await client.completions.create({
      model: "chat",
      prompt: PROMPT,
      n: 3,
      seed: 5,
      max_tokens: 8,
    });
    assertEquals(new Set(drawn.choices.map(({ text }) => text)).size, 3);
    const again = await client.completions.create({
      model: "chat",
      prompt: PROMPT,
      n: 3,
      seed: 5,
      max_tokens: 8,
    });
    assertEquals(again.choices, drawn.choices);
  }));

Deno.test("serve takes the fastest products by default, and its answers name them", () =>
  withServer([], async (_, client) => {
    const answer = await client.completions.create({
      ...{ model: "chat", prompt: [...ids], max_tokens: 1, temperature: 0, logprobs: 1, echo: true },
    });
    assertEquals(answer.system_fingerprint, "matmul int8");
    const int8 = await openCpu({ threads: 1, products: "int8" }), { model } = await loadModel(path, int8);
    const found = answer.choices[0]!.logprobs!.token_logprobs!.slice(1), exact = score(false);
    const wanted = [...scoreSequence(model, ids).nll].map((loss) => -loss);
    wanted.forEach((each, i) => assertAlmostEquals(found[i]!, each, 1e-4));
    assert(wanted.some((each, i) => Math.abs(each - exact[i]!) > 1e-3), "rounding moves a probability");
  }));

Deno.test("serve refuses what it cannot do, and names the field", () =>
  withServer(["--waiting", "1"], async (address) => {
    const post = async (body: unknown, url = "/completions", headers: Record<string, string> = {}) => {
      const response = await fetch(address + url, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: typeof body === "string" ? body : JSON.stringify(body),
      });
      const { error } = await response.json();
      return [response.status, error?.param, error?.message] as const;
    };
    const base = { model: "chat", prompt: "It", max_tokens: 1 };
    const cases: [unknown, number, string | null, string][] = [
      ["{", 400, null, "it is not JSON"],
      [[], 400, null, "expected a JSON object"],
      [{ prompt: "a" }, 400, "model", "found null"],
      [{ ...base, model: "gpt" }, 404, "model", 'expected "chat"'],
      [{ ...base, prompt: undefined }, 400, "prompt", "found null"],
      [{ ...base, prompt: [5000] }, 400, "prompt", "found 5000, expected token ids from 0 to 4095"],
      [{ ...base, prompt: [] }, 400, "prompt", "at least one"],
      [{ ...base, max_tokens: 600 }, 400, "max_tokens", "the model takes 512 together"],
      [{ ...base, max_tokens: 0 }, 400, "max_tokens", "at least 1, or echo"],
      [{ ...base, temperature: -1 }, 400, "temperature", "found -1"],
      [{ ...base, top_p: 0 }, 400, "top_p", '"top_p": found 0'],
      [{ ...base, n: 200 }, 400, "n", "from 1 to 128"],
      [{ ...base, n: 65, prompt: ["It", "was"] }, 400, "prompt", "Cannot make 130 texts"],
      [{ ...base, logprobs: 21 }, 400, "logprobs", "from 0 to 20"],
      [{ ...base, stop: [""] }, 400, "stop", "at most 16 texts"],
      [{ ...base, stream: "yes" }, 400, "stream", "true or false"],
      [{ ...base, frequency_penalty: 1 }, 400, "frequency_penalty", "does not have it"],
      [{ ...base, magic: 1 }, 400, "magic", "does not have it"],
    ];
    for (const [body, status, param, message] of cases) {
      const found = await post(body);
      assertEquals(found.slice(0, 2), [status, param], JSON.stringify([body, found]));
      assert(found[2].includes(message), found[2]);
    }
    assertEquals(
      (await post({ model: "chat", messages: [{ role: "user" }] }, "/chat/completions"))[1],
      "messages",
    );
    assertEquals((await post(base, "/completions", { "content-type": "text/plain" }))[0], 415);
    assertEquals((await post(base, "/nothing"))[0], 404);
    assertEquals((await post(`{"model": "${"x".repeat(8_000_001)}"}`))[0], 413);
    const get = await fetch(`${address}/completions`);
    assertEquals([get.status, (await get.json()).error.message], [
      405,
      "Cannot GET /v1/completions: expected POST",
    ]);
    const { hostname, port } = new URL(address);
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(new TextEncoder().encode("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
    const answer = new Uint8Array(400), size = await connection.read(answer);
    assertMatch(new TextDecoder().decode(answer.subarray(0, size!)), /^HTTP\/1.1 403 /);
  }));

Deno.test("serve bounds its queue, and stops for a client that leaves", () =>
  withServer(["--together", "1", "--waiting", "1"], async (address) => {
    const long = {
      ...{ model: "chat", prompt: "It was", max_tokens: 500, temperature: 0, ignore_eos: true },
      user: "x".repeat(3000), // too long for the request's signal to report the client's leaving
    };
    const ask = (body: unknown, signal?: AbortSignal) =>
      fetch(`${address}/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        ...(signal && { signal }),
      });
    const waiting = async () => (await (await fetch(address.replace("/v1", "/health"))).json()).waiting;
    const until = async (count: number) => {
      while (await waiting() !== count) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const first = new AbortController(), second = new AbortController();
    const stream = await ask({ ...long, stream: true }, first.signal);
    const reader = stream.body!.getReader();
    await reader.read(); // its turn has come
    const left = assertRejects(async () => await (await ask(long, second.signal)).text());
    await until(1);
    const full = await ask(long);
    assertEquals([full.status, full.headers.get("retry-after")], [429, "1"]);
    assertMatch((await full.json()).error.message, /1 are waiting/);
    second.abort();
    await left;
    await until(0);
    const next = ask({ ...long, max_tokens: 2 });
    await until(1);
    first.abort(); // in the middle of its text
    await assertRejects(() => reader.read());
    const { choices: [{ text }] } = await (await next).json();
    assert(text.length > 0);
  }));

Deno.test("serve needs a token for other addresses, and then of every request", async () => {
  const args = ["--host", "0.0.0.0", "--port", "0"];
  const refused = await runTask("serve", ...args);
  assertEquals(refused.code, 2);
  assertMatch(refused.stderr, /^Cannot serve on 0\.0\.0\.0 without a token: expected --token-file FILE or /);
  await withFolder(async (own) => {
    await Deno.writeTextFile(`${own}/token`, "correct-horse\n");
    await withServer(["--token-file", `${own}/token`], async (address) => {
      const status = async (headers: Record<string, string>) => {
        const response = await fetch(`${address}/models`, { headers });
        await response.body?.cancel();
        return response.status;
      };
      assertEquals(await status({}), 401);
      assertEquals(await status({ authorization: "Bearer correct-horsE" }), 401);
      assertEquals(await status({ authorization: "Bearer correct-horse" }), 200);
    });
    await Deno.writeTextFile(`${own}/token`, "short\n");
    const short = await runTask("serve", "--token-file", `${own}/token`);
    assertEquals([short.code, short.stderr], [
      2,
      "Cannot use the token: expected at least 8 printable characters without spaces\n",
    ]);
  });
  const ahead = await finish(await spawnTask("serve", ["--method", "oracle"]));
  assertMatch(ahead.stderr, /^Cannot serve oracle, .*: it is non-causal/);
});
