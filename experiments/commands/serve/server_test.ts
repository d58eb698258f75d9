/** The server without a socket: work stops when its client has left. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { loadModel, type Tokenizer } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { StopGate } from "./completion.ts";
import { QueueFullError, TurnQueue } from "./queue.ts";
import { createHandler } from "./server.ts";

const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
let made = 0, onToken = () => {};
/** Counts the tokens that are written, and tells of each. */
const counting = new Proxy(tokenizer, {
  get(target, name) {
    if (name === "bytes") made++, onToken();
    const value = target[name as keyof Tokenizer];
    return typeof value === "function" ? value.bind(target) : value;
  },
});
const errors: unknown[] = [];
const handler = createHandler({
  engines: new Map([["tiny", { model, tokenizer: counting, pruner: undefined }]]),
  token: undefined,
  queue: 1,
  onError: (error) => errors.push(error),
});
const ask = (body: object, signal?: AbortSignal) =>
  handler(
    new Request("http://localhost/v1/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "tiny",
        prompt: "It",
        max_tokens: 400,
        temperature: 0,
        ignore_eos: true,
        ...body,
      }),
      ...(signal && { signal }),
    }),
  );

Deno.test("a stream that is not read any more, and a request that is aborted, make no more tokens", async () => {
  const stream = await ask({ stream: true }), reader = stream.body!.getReader();
  await reader.read();
  await reader.read();
  await reader.cancel();
  const afterStream = made;
  assert(afterStream >= 2 && afterStream <= 4, `${afterStream}`);
  const leaving = new AbortController();
  onToken = () => leaving.abort();
  assertEquals((await ask({}, leaving.signal)).status, 499);
  assertEquals(made - afterStream, 1);
  onToken = () => {};
  // A timer runs between two tokens, how soon is the machine's affair: of 400 tokens some are left.
  const later = new AbortController(), whole = ask({}, later.signal), begun = made;
  while (made === begun) await new Promise((resolve) => setTimeout(resolve, 1));
  later.abort();
  assertEquals((await whole).status, 499);
  const next = await ask({ max_tokens: 1 });
  assertEquals([next.status, errors], [200, []]);
});

Deno.test("a client may leave while a part of its stream is on its way", async () => {
  const { body } = await ask({ stream: true }), reader = body!.getReader();
  await reader.read();
  onToken = () => void reader.cancel();
  assertEquals((await reader.read()).done, true);
  onToken = () => {};
  const next = await ask({ max_tokens: 1 });
  assertEquals([next.status, errors], [200, []]);
});

Deno.test("TurnQueue gives turns in order, to as many as may wait, and forgets who leaves", async () => {
  const queue = new TurnQueue(2), never = new AbortController().signal, order: string[] = [];
  const first = await queue.take(never), leaving = new AbortController();
  const take = async (name: string, signal = never) => {
    const turn = await queue.take(signal);
    order.push(name);
    return turn;
  };
  const second = take("second", leaving.signal), third = take("third");
  await assertRejects(() => queue.take(never), QueueFullError, "2 are waiting");
  leaving.abort();
  await assertRejects(() => second, DOMException);
  assertEquals(queue.length, 1);
  const fourth = take("fourth");
  first[Symbol.dispose]();
  first[Symbol.dispose](); // once is enough
  const turn = await third;
  assertEquals(order, ["third"]);
  turn[Symbol.dispose]();
  (await fourth)[Symbol.dispose]();
  assertEquals([order, queue.length], [["third", "fourth"], 0]);
  (await queue.take(never))[Symbol.dispose]();
  await assertRejects(() => queue.take(leaving.signal), DOMException);
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
