/** Tools of a chat: the prompt that the template writes, and calls in what the model says. */
import { assertEquals } from "@std/assert";
import { openCpu } from "../../../ffi/mod.ts";
import { loadModel, type Tokenizer } from "../../../lib/model/mod.ts";
import { renderChat } from "../../../lib/model/tokenizer/chat.ts";
import golden from "./testdata/tool_chat_golden.json" with { type: "json" };
import { Batch } from "./batch.ts";
import { Fields } from "./fields.ts";
import type { AskedKind, ToClient } from "./messages.ts";
import { Service } from "./service.ts";
import { CallGate, findCalls, readCalls, readTools } from "./tools.ts";

const { template, tools, messages } = golden;
const offered = readTools(new Fields({ tools }), template)!;
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "Bern"}}\n</tool_call>';
const whole = (text: string) => {
  const found = findCalls(text, offered);
  return found && [found.content, ...found.calls.map(({ function: { arguments: given } }) => given)];
};

Deno.test("renderChat() writes tools, calls and answers of tools as Python's jinja2 does", () => {
  const tokenizer = { chatTemplate: template, bosId: 1, eosId: 2, piece: () => "" };
  const asked = messages.map(({ role, content, ...more }) => {
    const calls = "tool_calls" in more
      ? more.tool_calls!.map((call) => ({
        ...call,
        function: { ...call.function, arguments: JSON.stringify(call.function.arguments) },
      }))
      : undefined;
    return { role, content, ...readCalls({ ...more, ...(calls && { tool_calls: calls }) }) };
  });
  assertEquals(renderChat(tokenizer, asked, offered.list), golden.text);
});

Deno.test("findCalls() takes sound calls alone: all others stay text", () => {
  assertEquals(whole(CALL), [null, '{"place":"Bern"}']);
  assertEquals(whole(`I look.\n${CALL}\n${CALL}\n`), ["I look.", '{"place":"Bern"}', '{"place":"Bern"}']);
  assertEquals(whole('<tool_call>{"name": "weather"}</tool_call>'), [null, "{}"]);
  const unsound = [
    ...["It rains.", CALL.slice(0, -1), `${CALL} and then`, CALL.replace("weather", "stocks")],
    ...[CALL.replace("}}", "}"), CALL.replace('{"place": "Bern"}', '"Bern"'), "<tool_call>[]</tool_call>"],
    ...[`${CALL}</tool_call>`, `<tool_call>${CALL}`],
  ];
  for (const text of unsound) assertEquals(whole(text), undefined, text);
  assertEquals(findCalls(CALL, { ...offered, areFound: false }), undefined);
});

Deno.test("CallGate shows a text up to where a call begins, however it comes", () => {
  for (const text of ["a < b <tool> c", `x${CALL}`, "<tool_cal", "<<tool_call>"]) {
    for (const size of [1, 2, 3, 100]) {
      const gate = new CallGate();
      let shown = "";
      for (let at = 0; at < text.length; at += size) shown += gate.pass(text.slice(at, at + size));
      const begins = text.indexOf("<tool_call>");
      if (begins >= 0) assertEquals(shown, text.slice(0, begins));
      assertEquals(shown + gate.held, text);
      if (text.endsWith("c")) assertEquals(gate.held, "");
    }
  }
});

/** A chat with a model that says a text, whatever it is asked. */
async function chat(text: string, body: object, chatTemplate: string | undefined = template) {
  const loaded = await loadModel("tiny", await openCpu({ build: true, threads: 1 }));
  const tokenizer = new Proxy(loaded.tokenizer, {
    get(target, name) {
      if (name === "chatTemplate") return chatTemplate;
      if (name === "decodeStream") {
        let at = 0;
        return () => ({ next: () => text.slice(at, at += 3), end: () => "" });
      }
      const value = target[name as keyof Tokenizer];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const engine = { model: loaded.model, tokenizer, pruner: undefined, batch: new Batch(loaded.model) };
  using service = new Service({
    ...{ engines: new Map([["tiny", engine]]), together: 1, waiting: 1, onState: () => {} },
    onError: (error) => {
      throw error;
    },
  });
  const { port1: port, port2: client } = new MessageChannel(), over = Promise.withResolvers<ToClient>();
  let said = "";
  port.onmessage = ({ data }: MessageEvent<ToClient>) => {
    if ("part" in data) {
      said += data.part;
      port.postMessage("read");
    } else if (!("begins" in data)) over.resolve(data);
  };
  const asked = { model: "tiny", temperature: 0, ignore_eos: true, max_tokens: 60, stop: ["#"] };
  const kind: AskedKind = "chat";
  await service.take({
    kind,
    body: { ...asked, messages: [{ role: "user", content: "a" }], ...body },
    client,
  });
  const last = await over.promise;
  port.close();
  return { said, last };
}

Deno.test("a chat answers with calls of tools, whole and as a stream, and with the text where they are not sound", async () => {
  const answer = async (text: string, body: object = {}) => {
    const { choices: [{ message, finish_reason }] } = JSON.parse((await chat(text, { tools, ...body })).said);
    const calls = message.tool_calls?.map((call: { function: unknown }) => call.function);
    return [message.content, calls, finish_reason];
  };
  const call = { name: "weather", arguments: '{"place":"Bern"}' };
  assertEquals(await answer(`I look. ${CALL}#`), ["I look.", [call], "tool_calls"]);
  assertEquals(await answer("It rains.#"), ["It rains.", undefined, "stop"]);
  assertEquals(await answer(CALL, { max_tokens: 9 }), [CALL.slice(0, 27), undefined, "length"]);
  assertEquals(await answer(`${CALL}#`, { tool_choice: "none" }), [CALL, undefined, "stop"]);

  const stream = async (text: string) => {
    const { said } = await chat(text, { tools, stream: true });
    const parts = said.trim().split("\n\n").slice(0, -1).map((part) => JSON.parse(part.slice(6)).choices[0]);
    const content = parts.map(({ delta }) => delta.content ?? "").join("");
    const calls = parts.flatMap(({ delta }) => delta.tool_calls ?? []);
    return [content, calls.map((call) => [call.index, call.function]), parts.at(-1).finish_reason];
  };
  assertEquals(await stream(`I look. ${CALL}#`), ["I look. ", [[0, call]], "tool_calls"]);
  assertEquals(await stream("<tool_call>no#"), ["<tool_call>no", [], "stop"]);
});

Deno.test("tools are refused by name where they are none, must be called, or the template has no place for them", async () => {
  const refused = async (body: object, chatTemplate?: string) => {
    const { last } = await chat("", body, chatTemplate);
    return (last as unknown as { refused: { param: string; status: number } }).refused;
  };
  const cases: [object, string, string?][] = [
    ...[[{ tools: [{}] }, "tools"], [{ tools: "x" }, "tools"]] as [object, string][],
    ...[[{ tools, tool_choice: "required" }, "tool_choice"], [
      { tool_choice: "required" },
      "tool_choice",
    ]] as [
      object,
      string,
    ][],
    [{ tools }, "tools", "{{ messages[0].content }}"],
    [
      { messages: [{ role: "assistant", tool_calls: [{ function: { name: "a", arguments: "{" } }] }] },
      "messages",
    ],
  ];
  for (const [body, param, own] of cases) {
    const { status, param: found } = await refused(body, own);
    assertEquals([status, found], [400, param], JSON.stringify(body));
  }
});
