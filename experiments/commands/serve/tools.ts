/** Tools of a chat: what a request offers to the model, and the calls of them that its text has. */
import type { ChatMessage } from "../../../lib/model/tokenizer/chat.ts";
import { type Body, type Fields, wrong } from "./fields.ts";
import { RefusedError } from "./messages.ts";

/** Most tools of a request, as with OpenAI. */
const MOST_TOOLS = 128;

/** What surrounds a call in texts of models whose template has it: Hermes, Qwen and SmolLM3 do. */
const BEGIN = "<tool_call>", END = "</tool_call>";

export interface Tools {
  /** As the template reads them. */
  readonly list: readonly Body[];
  /** Whether calls are found in texts: the template writes them between {@linkcode BEGIN} and {@linkcode END}. */
  readonly areFound: boolean;
}

/** A call as OpenAI's clients read it. */
export interface FoundCall {
  readonly id: string;
  readonly type: "function";
  /** `arguments` is JSON. */
  readonly function: { readonly name: string; readonly arguments: string };
}

type ToolCall = NonNullable<ChatMessage["tool_calls"]>[number];

const isObject = (value: unknown): value is Body =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const nameOf = (tool: Body) => (tool.function as Body).name as string;

/**
 * The tools of a chat; undefined where there are none, or the model is to call none.
 *
 * @throws {RefusedError} If they are no tools, or the template has no place for tools.
 */
export function readTools(fields: Fields, chatTemplate: string | undefined): Tools | undefined {
  const list = fields.read("tools") ?? [];
  if (Array.isArray(list) && list.length === 0) return undefined;
  const isTool = (tool: unknown) =>
    isObject(tool) && tool.type === "function" && isObject(tool.function) &&
    /^[\w.-]{1,64}$/.test(String(tool.function.name)) &&
    (tool.function.parameters === undefined || isObject(tool.function.parameters));
  if (!Array.isArray(list) || list.length > MOST_TOOLS || !list.every(isTool)) {
    throw wrong("tools", list, `at most ${MOST_TOOLS} of {"type": "function", "function": {"name": …}}`);
  }
  const choice = fields.read("tool_choice") ?? "auto";
  if (choice !== "auto" && choice !== "none") throw wrong("tool_choice", choice, '"auto" or "none"');
  if (chatTemplate !== undefined && !/\btools\b/.test(chatTemplate)) {
    throw new RefusedError('Cannot use "tools": the model\'s chat template has none', "tools");
  }
  if (choice === "none") return undefined;
  return { list, areFound: chatTemplate?.includes(BEGIN) === true && chatTemplate.includes(END) };
}

/**
 * The calls of an earlier message, and the name and the call that an answer of a tool belongs to, as templates read them.
 *
 * @throws {RefusedError} If they are none.
 */
export function readCalls(message: Body): Omit<ChatMessage, "role" | "content"> {
  const { tool_calls: calls, tool_call_id: id, name } = message;
  const known = Object.entries({ tool_call_id: id, name }).filter(([, value]) => typeof value === "string");
  const texts = Object.fromEntries(known) as Omit<ChatMessage, "role" | "content">;
  if (calls === undefined || calls === null) return texts;
  if (!Array.isArray(calls)) throw wrong("messages", message, "a list of tool_calls");
  const read = calls.map((call): ToolCall => {
    const { name, arguments: given } = Object(call?.function) as { name?: unknown; arguments?: unknown };
    const found = typeof given === "string" ? parse(given) : given;
    if (typeof name === "string" && isObject(found)) {
      const own = typeof call.id === "string" ? { id: call.id } : {};
      return { ...own, type: "function", function: { name, arguments: found } };
    }
    throw wrong("messages", call, "tool_calls of a function's name and arguments, an object in JSON");
  });
  return { ...texts, tool_calls: read };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/**
 * The calls in a whole text, behind what it says.
 *
 * @returns Undefined where it has none, or one that is not sound: cut off, no JSON, of no tool, or with text behind it.
 */
export function findCalls(
  text: string,
  { list, areFound }: Tools,
): { readonly content: string | null; readonly calls: readonly FoundCall[] } | undefined {
  const [said, ...parts] = text.split(BEGIN);
  if (!areFound || parts.length === 0) return undefined;
  const names = new Set(list.map(nameOf)), calls: FoundCall[] = [];
  for (const part of parts) {
    const [json, ...rest] = part.split(END), call = parse(json!);
    if (rest.length !== 1 || rest[0]!.trim() !== "" || !isObject(call)) return undefined;
    const { name, arguments: given = {} } = call;
    if (typeof name !== "string" || !names.has(name) || !isObject(given)) return undefined;
    const id = `call_${crypto.randomUUID().replaceAll("-", "")}`;
    calls.push({ id, type: "function", function: { name, arguments: JSON.stringify(given) } });
  }
  return { content: said!.trim() || null, calls };
}

/** Holds the text of a stream back from where a call begins, or may begin. */
export class CallGate {
  #held = "";

  /** @returns The text that may be shown. */
  pass(text: string): string {
    const all = this.#held + text, at = all.indexOf(BEGIN);
    let shown = at;
    if (at < 0) {
      for (shown = Math.max(0, all.length - BEGIN.length + 1); !BEGIN.startsWith(all.slice(shown));) {
        shown++;
      }
    }
    this.#held = all.slice(shown);
    return all.slice(0, shown);
  }

  /** What is held back: the beginning of a call, and all that follows. */
  get held(): string {
    return this.#held;
  }
}
