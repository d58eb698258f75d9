/** The thread of the model without a socket: texts are computed together, and work stops when no process reads it. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { openCpu } from "../../../ffi/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel, type Model, type ModelSequence, type Tokenizer } from "../../../lib/model/mod.ts";
import { Batch } from "./batch.ts";
import { type Engine, StopGate } from "./completion.ts";
import type { AskedKind, FromClient, ToClient } from "./messages.ts";
import { RefusedError } from "./messages.ts";
import { TurnQueue } from "./queue.ts";
import { Service } from "./service.ts";

const loaded = await loadModel("tiny", await openCpu({ build: true, threads: 1 }));
let made = 0, onToken = () => {};
/** Counts the tokens that are written, and calls `onToken` before each. */
const tokenizer = new Proxy(loaded.tokenizer, {
  get(target, name) {
    const value = target[name as keyof Tokenizer];
    if (name !== "decodeStream") return typeof value === "function" ? value.bind(target) : value;
    return (before: Int32Array) => {
      const stream = target.decodeStream(before);
      return { ...stream, next: (id: number) => (made++, onToken(), stream.next(id)) };
    };
  },
});
/** Sequences of each step of several. */
const steps: number[] = [];
const model = watched(loaded.model, (name, feeds) => {
  if (name === "stepTogether") steps.push((feeds as unknown[]).length);
});
const pruner = createPruner("token-filtering", loaded.config, { fusion: "variance", warmup: 4, recent: 4 });

/** An object that reports its calls. */
function watched<T extends Model | Tokenizer>(of: T, tell: (name: string, given: unknown) => void): T {
  return new Proxy(of, {
    get(target, name) {
      const value = target[name as keyof T];
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        tell(String(name), args[0]);
        return value.apply(target, args);
      };
    },
  });
}

function openService({ together = 8, waiting = 16 } = {}) {
  const dense: Engine = { model, tokenizer, pruner: undefined, batch: new Batch(model) };
  const errors: unknown[] = [];
  const service = new Service({
    engines: new Map([["tiny", { ...dense, pruner }], ["tiny/dense", dense]]),
    ...{ together, waiting },
    onState: () => {},
    onError: (error) => errors.push(error),
  });
  return { service, errors };
}

/** Asks a service, as the HTTP thread does. @param reads whether the client reports that it has read */
function ask(
  service: Service,
  body: object,
  { reads = true, kind = "text" as AskedKind, onPart = () => {} } = {},
) {
  const { port1: port, port2: client } = new MessageChannel(), parts: string[] = [];
  let isReading = reads;
  const over = Promise.withResolvers<ToClient>();
  const say = (word: FromClient) => port.postMessage(word);
  const leave = () => {
    say("left");
    port.close();
  };
  port.onmessage = ({ data }: MessageEvent<ToClient>) => {
    if ("part" in data) {
      parts.push(data.part);
      onPart();
      if (isReading) say("read");
    } else if (!("begins" in data)) {
      over.resolve(data);
      port.close();
    }
  };
  const base = kind === "text" || kind === "chat" ? { model: "tiny", temperature: 0, ignore_eos: true } : {};
  const taken = service.take({ kind, body: { ...base, ...body }, client });
  return {
    parts,
    leave,
    /** Reads what has come, and what comes from now on. */
    read() {
      isReading = true;
      parts.forEach(() => say("read"));
    },
    /** Until the service is done with it. */
    taken,
    last: over.promise,
    async answer() {
      const last = await over.promise;
      assertEquals(last, { ends: "whole" });
      return JSON.parse(parts.join(""));
    },
  };
}

const PROMPTS = [
  "It was a dark night",
  "Once",
  "The old house by the sea and the",
  "She said that",
  "In the town",
];

Deno.test("a client's port is closed on both sides, whatever ends its answer: an open one keeps memory", async () => {
  const { service } = openService(), prompt = PROMPTS[0];
  const closedAfter = async (body: object, leaves = false) => {
    const { port1: port, port2: client } = new MessageChannel();
    let closed = 0;
    const close = client.close.bind(client);
    client.close = () => (closed++, close());
    if (leaves) port.postMessage("left");
    await service.take({ kind: "text", body: { model: "tiny", max_tokens: 1, ...body }, client });
    port.close();
    return closed;
  };
  assertEquals([await closedAfter({ prompt }), await closedAfter({ prompt: 7, n: -1 })], [1, 1]);
  assertEquals(await closedAfter({ prompt, max_tokens: 64 }, true), 1);
});

Deno.test("texts that are made together are those of a client alone, filtered and not, and each step is one", async () => {
  const { service, errors } = openService({ together: 4 });
  steps.length = 0;
  const bodies = PROMPTS.flatMap((prompt, i) =>
    ["tiny", "tiny/dense"].map((model) => ({ model, prompt, max_tokens: 16 + i }))
  );
  const alone = [];
  for (const body of bodies) alone.push((await ask(service, body).answer()).choices);
  assertEquals(steps, [], "nobody else was there");
  const together = await Promise.all(bodies.map((body) => ask(service, body).answer()));
  assertEquals(together.map(({ choices }) => choices), alone);
  assertEquals(Math.max(...steps), 4, "as many as --together allows");
  const tokens = bodies.reduce((sum, body) => sum + body.max_tokens - 1, 0); // the first comes of the prompt
  const shared = steps.reduce((a, b) => a + b, 0);
  assert(shared <= tokens && shared > 0.9 * tokens, `${shared} of ${tokens} tokens in steps of several`);
  assert(steps.length < tokens / 2.5, `${steps.length} steps for ${tokens} tokens`);
  const docs = await Deno.readTextFile(new URL("../../../docs/guides/serve.md", import.meta.url));
  for (const name of Object.keys(together[0]!.usage.tokenfilter)) {
    assertStringIncludes(docs, `| \`${name}\` |`);
  }
  const { usage } = together[0]!, skipped = usage.tokenfilter.queries_skipped;
  assert(
    skipped > 0 && usage.tokenfilter.queries_dense === 10 * (usage.total_tokens - 1),
    JSON.stringify(usage),
  );
  assertEquals(service.state.totals["tiny"]!.completion_tokens, 2 * (16 + 17 + 18 + 19 + 20));
  assertEquals([service.state.running, service.state.waiting, errors], [0, 0, []]);
});

Deno.test("the texts of one request are made together, while nobody else waits", async () => {
  const { service } = openService({ together: 3 });
  steps.length = 0;
  const several = ask(service, { prompt: PROMPTS, n: 2, max_tokens: 5, temperature: 1, seed: -1 });
  const { choices } = await several.answer();
  assertEquals([choices.length, Math.max(...steps)], [10, 3]);
  const one = await ask(service, { prompt: PROMPTS[1], n: 2, max_tokens: 5, temperature: 1, seed: -1 })
    .answer();
  assertEquals(
    one.choices.map(({ text }: { text: string }) => text),
    choices.slice(2, 4).map(({ text }: { text: string }) => text),
  );
  // A later request does not wait for all of them.
  const order: string[] = [];
  const many = ask(service, { prompt: PROMPTS, n: 4, max_tokens: 8 }).answer().then(() => order.push("many"));
  await new Promise((resolve) => onToken = () => resolve(undefined));
  onToken = () => {};
  await ask(service, { prompt: "It", max_tokens: 2 }).answer();
  order.push("few");
  await many;
  assertEquals(order, ["few", "many"]);
});

Deno.test("a long prompt is fed in pieces, between which the others go on", async () => {
  const { service } = openService();
  const long = Array.from({ length: 480 }, (_, i) => 300 + i % 400);
  let before = 0;
  const prompt = [...loaded.tokenizer.encode("It")]; // as quickly read as the long one
  const short = ask(service, { prompt, max_tokens: 12, stream: true });
  const onPart = () => before ||= short.parts.length;
  await ask(service, { prompt: long, max_tokens: 2, stream: true }, { onPart }).last;
  await short.last;
  assert(before >= 4, `${before} parts of the short text before the first of the long one`);
});

Deno.test("a client that leaves or does not read makes no more tokens, and keeps nobody waiting", async () => {
  const { service, errors } = openService({ together: 1 });
  for (const stream of [true, false]) {
    const left = ask(service, { prompt: "It", max_tokens: 400, stream });
    await new Promise((resolve) => onToken = () => resolve(undefined));
    left.leave();
    const begun = made;
    await left.taken;
    assert(made - begun < 395, "of 400 tokens some are left, how many is the affair of the machine");
    onToken = () => {};
  }
  const early = ask(service, { prompt: "It", max_tokens: 400 });
  early.leave(); // before its prompt is fed
  await early.taken;

  const { service: wide } = openService({ together: 2 });
  const begun = made, silent = ask(wide, { prompt: "It", max_tokens: 400, stream: true }, { reads: false });
  const { choices } = await ask(wide, { prompt: "It", max_tokens: 60 }).answer();
  assertEquals([choices.length, silent.parts.length], [1, 16]);
  assertEquals(made - begun, 60 + 16 + 1, "the one that could not be sent waits");
  silent.leave();
  await silent.taken;
  assertEquals([wide.state.running, errors], [0, []]);
});

Deno.test("clients that do not read keep no place: the next text is made meanwhile, and theirs go on once they read", async () => {
  const { service, errors } = openService({ together: 1, waiting: 1 });
  const long = { prompt: "It", max_tokens: 40, stream: true };
  const silent = [ask(service, long, { reads: false })];
  while (silent[0]!.parts.length < 16) await new Promise((resolve) => setTimeout(resolve, 1));
  const { choices } = await ask(service, { prompt: "It", max_tokens: 20 }).answer();
  assertEquals([choices.length, silent[0]!.parts.length, service.state.running], [1, 16, 0]);
  // One may rest; the next one keeps its place.
  silent.push(ask(service, long, { reads: false }));
  while (silent[1]!.parts.length < 16) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(service.state.running, 1);
  silent[1]!.leave();
  await silent[1]!.taken;
  silent[0]!.read();
  assertEquals(await silent[0]!.last, { ends: "whole" });
  assertEquals([silent[0]!.parts.at(-1), service.state.running, errors], ["data: [DONE]\n\n", 0, []]);
});

Deno.test("a prompt that no context holds is refused before it is cut into tokens", async () => {
  const { service } = openService();
  const encoded: string[] = [];
  const own = watched(loaded.tokenizer, (name, text) => name === "encode" && encoded.push(text as string));
  const engine = { model, tokenizer: own, pruner: undefined, batch: new Batch(model) };
  const guarded = new Service({
    engines: new Map([["tiny", engine]]),
    ...{ together: 1, waiting: 0 },
    onState: () => {},
    onError: (error) => {
      throw error;
    },
  });
  const longest = Math.max(
    ...Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.bytes(id).length),
  );
  for (const kind of ["text", "chat"] as const) {
    const param = kind === "text" ? "prompt" : "messages";
    const body = (text: string) =>
      kind === "text" ? { prompt: ["It", text] } : { messages: [{ role: "user", content: text }] };
    const { refused } = await ask(guarded, body("é".repeat(1_000_000)), { kind }).last as never;
    assertEquals(refused, {
      status: 400,
      message: `Cannot use "${param}": found 2000000 bytes, expected at most the ${
        512 * longest
      } that the model's 512 tokens can hold`,
      param,
    });
  }
  assertEquals(encoded, ["It"]);
  const { refused } = await ask(service, { prompt: "a".repeat(512 * longest) }).last as never;
  assertEquals((refused as { param: string }).param, "max_tokens", "what might fit is counted in tokens");
});

Deno.test("fields that ask for nothing are taken, and an assistant that has said nothing", async () => {
  const { service } = openService();
  const ok = {
    ...{ parallel_tool_calls: false, tool_choice: "none", tools: [], functions: [], function_call: "auto" },
    ...{ service_tier: "auto", modalities: ["text"], seed: -5, user: "a", response_format: { type: "text" } },
    ...{ safety_identifier: "a", prompt_cache_key: "b", store: false, metadata: {}, logit_bias: {} },
  };
  const { choices } = await ask(service, { prompt: "It", max_tokens: 1, ...ok }).answer();
  assertEquals(choices.length, 1);
  for (
    const [field, value] of Object.entries({
      ...{ tool_choice: "required", service_tier: "flex", modalities: ["text", "audio"], tools: [{}] },
      ...{ seed: 1.5, logit_bias: { 5: 1 }, response_format: { type: "xml" } },
    })
  ) {
    const { refused } = await ask(service, { prompt: "It", max_tokens: 1, [field]: value }).last as never;
    assertEquals((refused as { param: string }).param, field);
  }
  const messages = [{ role: "user", content: "a" }, { role: "assistant", content: null }];
  const { refused } = await ask(service, { messages }, { kind: "chat" }).last as {
    refused: { message: string };
  };
  assert(refused.message.includes("no chat template"), "tiny has none: the messages themselves were taken");
  const nobody = { messages: [{ role: "user", content: null }] };
  const { refused: empty } = await ask(service, nobody, { kind: "chat" }).last as {
    refused: { message: string };
  };
  assert(empty.message.includes("expected a role and a content of text"));
});

Deno.test("an error of the model is told to the log and breaks the answer off, and the next one is answered", async () => {
  const { service, errors } = openService();
  const failing = ask(service, { prompt: "It", max_tokens: 20 });
  onToken = () => {
    throw new Error("broken");
  };
  assertEquals(await failing.last, { ends: "broken" });
  onToken = () => {};
  assertEquals(errors.map((error) => (error as Error).message), ["broken"]);
  assertEquals((await ask(service, { prompt: "It", max_tokens: 1 }).answer()).choices.length, 1);
});

Deno.test("Batch fails the texts of a step that fails, and no others", async () => {
  let fails = true;
  const batch = new Batch(watched(loaded.model, (name) => {
    if (name === "stepTogether" && fails) throw new RangeError("no memory");
  }));
  const never = new AbortController().signal, start = () => loaded.model.start();
  const prompt = (sequence: ModelSequence) => batch.prompt(sequence, Int32Array.of(5, 6), never);
  const logits = await prompt(start()), sequences = [start(), start()];
  await Promise.all(sequences.map(prompt));
  const steps = sequences.map((sequence) =>
    assertRejects(() => batch.next(sequence, 7, never), RangeError, "no memory")
  );
  await Promise.all(steps);
  fails = false;
  assertEquals(await prompt(start()), logits);
  await assertRejects(() => batch.prompt(start(), Int32Array.of(99999), never), Error);
  assertEquals(await prompt(start()), logits);
});

Deno.test("TurnQueue gives turns in order, to as many as may wait, and forgets who leaves", async () => {
  let changes = 0;
  const queue = new TurnQueue(1, 2, () => changes++),
    never = new AbortController().signal,
    order: string[] = [];
  const first = await queue.take(never), leaving = new AbortController();
  assertEquals([queue.running, queue.waiting, queue.spare()], [1, 0, undefined]);
  const take = async (name: string, signal = never) => {
    const turn = await queue.take(signal);
    order.push(name);
    return turn;
  };
  const second = take("second", leaving.signal), third = take("third");
  await assertRejects(() => queue.take(never), RefusedError, "2 are waiting");
  leaving.abort();
  await assertRejects(() => second, DOMException);
  assertEquals(queue.waiting, 1);
  const fourth = take("fourth");
  first[Symbol.dispose]();
  first[Symbol.dispose](); // once is enough
  const turn = await third;
  assertEquals(order, ["third"]);
  turn[Symbol.dispose]();
  (await fourth)[Symbol.dispose]();
  assertEquals([order, queue.waiting, queue.running], [["third", "fourth"], 0, 0]);
  queue.spare()![Symbol.dispose]();
  (await queue.take(never))[Symbol.dispose]();
  await assertRejects(() => queue.take(leaving.signal), DOMException);
  assert(changes > 8);
});

Deno.test("TurnQueue has several turns", async () => {
  const queue = new TurnQueue(2, 0), never = new AbortController().signal;
  const first = await queue.take(never), second = queue.spare()!;
  await assertRejects(() => queue.take(never), RefusedError, "0 are waiting");
  second[Symbol.dispose]();
  const third = await queue.take(never);
  assertEquals(queue.running, 2);
  for (const turn of [first, third]) turn[Symbol.dispose]();
});

Deno.test("StopGate holds back what may become a stop text, and shows it when it does not", () => {
  const gate = new StopGate(["\n\n", "END"]);
  const pass = (text: string, isLast = false) => gate.pass(text, isLast);
  assertEquals(pass("a\n"), { text: "a", isStop: false });
  assertEquals(pass("b EN"), { text: "\nb ", isStop: false });
  assertEquals(pass("T"), { text: "ENT", isStop: false });
  assertEquals(pass("EN"), { text: "", isStop: false });
  assertEquals(pass("D more"), { text: "", isStop: true });
  assertEquals(new StopGate(["END"]).pass("xEN", true), { text: "xEN", isStop: false });
  assertEquals(new StopGate([]).pass("x", false), { text: "x", isStop: false });
});

Deno.test("/tokenize and /detokenize go both ways, without a turn", async () => {
  const { service } = openService({ together: 1, waiting: 0 });
  const call = (kind: AskedKind, body: object) => ask(service, body, { kind }).answer();
  const content = "The sea 🦜 is calm.", ids = [...loaded.tokenizer.encode(content, { bos: false })];
  assertEquals(await call("tokenize", { content }), { tokens: ids });
  assertEquals(await call("tokenize", { content, add_special: true }), {
    tokens: [loaded.tokenizer.bosId, ...ids],
  });
  const { tokens } = await call("tokenize", { content, with_pieces: true });
  assertEquals(tokens[0], { id: ids[0], piece: " The" });
  assertEquals(await call("detokenize", { tokens: ids }), { content });
  for (
    const [kind, body, param] of [
      ["tokenize", {}, "content"],
      ["tokenize", { content: "a", speed: 1 }, "speed"],
      ["detokenize", { tokens: [1e9] }, "tokens"],
      ["detokenize", { tokens: "a" }, "tokens"],
    ] as const
  ) {
    const { refused } = await ask(service, body, { kind }).last as {
      refused: { status: number; param: string };
    };
    assertEquals([refused.status, refused.param], [400, param]);
  }
});

const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer" },
    tags: { type: "array", items: { enum: ["sea", "house"] }, maxItems: 2 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};

Deno.test("response_format: each text is JSON of the schema, greedy and drawn, filtered and not, and of its own grammar", async () => {
  const { service } = openService(),
    format = { type: "json_schema", json_schema: { name: "a", schema: SCHEMA } };
  const body = {
    prompt: "The captain of the ship:",
    max_tokens: 200,
    response_format: format,
    ignore_eos: false,
  };
  const answers = await Promise.all(
    ["tiny", "tiny/dense"].flatMap((model) =>
      [0, 1].map((temperature) => ask(service, { ...body, model, temperature, n: 5, seed: 3 }).answer())
    ),
  );
  const texts = answers.flatMap(({ choices }) => choices.map((choice: { text: string }) => choice.text));
  for (const text of texts) {
    const { name, age, tags = [], ...more } = JSON.parse(text);
    assert([...name].length <= 12 && Number.isInteger(age) && Object.keys(more).length === 0, text);
    assert(tags.length <= 2 && tags.every((tag: string) => tag === "sea" || tag === "house"), text);
  }
  assertEquals(
    answers.flatMap(({ choices }) =>
      choices.map((choice: { finish_reason: string }) => choice.finish_reason)
    ),
    Array(20).fill("stop"),
  );
  assert(new Set(texts).size > 5);
  const yes = { type: "json_schema", json_schema: { schema: { const: { yes: true } } } };
  const alone = await ask(service, { ...body, response_format: yes }).answer();
  assertEquals(alone.choices[0].text, '{"yes":true}');
});
