/** Requests of clients: bodies of OpenAI's completions and chat completions, checked field by field. */
import { UsageError } from "../../../lib/errors.ts";
import { yieldToEventLoop } from "../../../lib/eval/chunks/chunks.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import { Sampler, type SamplingOptions } from "../../../lib/model/generate/sampler.ts";
import { CHAT_ENCODING, type ChatMessage, renderChat } from "../../../lib/model/tokenizer/chat.ts";
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";
import type { Encoder } from "./encoder.ts";
import { type Body, Fields, wrong } from "./fields.ts";
import type { Formats } from "./grammar/formats.ts";
import type { TokenMasks } from "./grammar/constraint.ts";
import { type CompletionKind, RefusedError } from "./messages.ts";
import { readCalls, readTools, type Tools } from "./tools.ts";

export interface CompletionRequest {
  readonly kind: CompletionKind;
  /** The model's name, as the client has it. */
  readonly model: string;
  readonly prompts: readonly Int32Array<ArrayBuffer>[];
  readonly n: number;
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Texts that end a text; they are not part of it. */
  readonly stop: readonly string[];
  /** Number of likeliest tokens that the answer has per position; undefined: no probabilities. */
  readonly logprobs: number | undefined;
  readonly echo: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly ignoreEnd: boolean;
  /** Tokens that the grammar of `response_format` allows; undefined: all. */
  readonly format: TokenMasks | undefined;
  /** Tools that the model may call; undefined: none. */
  readonly tools: Tools | undefined;
}

/** What requests are read with. */
export interface RequestTools {
  readonly tokenizer: Tokenizer;
  readonly encoder: Encoder;
  readonly formats: Formats;
  readonly limits: RequestLimits;
}

/** The limits that requests are checked against. */
interface RequestLimits {
  /** Names that clients ask for. */
  readonly models: readonly string[];
  /** Tokens of a prompt and its text together. */
  readonly context: number;
  readonly vocabSize: number;
  /** Bytes that a prompt of that many tokens has at most. */
  readonly promptBytes: number;
}

/** Limits of a model. */
export function limitsOf(
  models: readonly string[],
  { contextLength: context, vocabSize }: Pick<ModelConfig, "contextLength" | "vocabSize">,
  tokenizer: Pick<Tokenizer, "vocabSize" | "bytes" | "piece">,
): RequestLimits {
  let longest = 1;
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    longest = Math.max(longest, tokenizer.bytes(id).length || utf8Length(tokenizer.piece(id)));
  }
  return { models, context, vocabSize, promptBytes: context * longest };
}

const utf8Length = (text: string) => new TextEncoder().encode(text).length;

/** Most texts that one request may ask for. */
const MAX_CHOICES = 128;
/** Most of the likeliest tokens at a position, as with OpenAI's chat. */
const MAX_LOGPROBS = 20;
/** Tokens of a completion by default, as with OpenAI. */
const DEFAULT_TOKENS = 16;

/**
 * Checks a body.
 *
 * @throws {RefusedError} If a field is missing, of the wrong kind, out of range, or not known; the error names it.
 */
export async function readRequest(
  kind: CompletionKind,
  body: unknown,
  tools: RequestTools,
): Promise<CompletionRequest> {
  const { limits } = tools, fields = new Fields(body), model = fields.read("model");
  if (typeof model !== "string") throw wrong("model", model ?? null, "a model's name");
  if (!limits.models.includes(model)) {
    const known = limits.models.map((name) => `"${name}"`).join(" or ");
    throw new RefusedError(`Cannot use model "${model}": expected ${known}`, "model", 404);
  }
  const list = kind === "text" ? listPrompts(fields.read("prompt")) : [fields.read("messages")];
  const offered = kind === "chat" ? readTools(fields, tools.tokenizer.chatTemplate) : undefined;
  const n = fields.integer("n", 1, MAX_CHOICES) ?? 1;
  if (n * list.length > MAX_CHOICES) {
    throw new RefusedError(`Cannot make ${n * list.length} texts: expected at most ${MAX_CHOICES}`, "prompt");
  }
  const prompts: Int32Array<ArrayBuffer>[] = [];
  for (const each of list) {
    if (prompts.length > 0) await yieldToEventLoop(); // the others' turn
    prompts.push(await (kind === "text" ? readPrompt(each, tools) : readMessages(each, tools, offered)));
  }
  const longest = Math.max(...prompts.map(({ length }) => length)), room = limits.context - longest;
  const most = kind === "chat" ? "max_completion_tokens" : "max_tokens";
  const asked = fields.integer("max_tokens", 0, 1e9) ??
    (kind === "chat" ? fields.integer(most, 0, 1e9) : undefined);
  const maxTokens = asked ?? (kind === "text" ? DEFAULT_TOKENS : Math.max(room, 1));
  if (maxTokens > room) {
    throw new RefusedError(
      `Cannot go on for ${maxTokens} tokens after a prompt of ${longest}: the model takes ${limits.context} together`,
      most,
    );
  }
  const request = {
    ...{ kind, model, prompts, n, maxTokens, tools: offered },
    sampling: readSampling(fields),
    stop: readStop(fields.read("stop")),
    logprobs: readLogprobs(kind, fields),
    echo: kind === "text" && fields.flag("echo"),
    stream: fields.flag("stream"),
    includeUsage:
      (fields.read("stream_options") as { include_usage?: unknown } | undefined)?.include_usage === true,
    ignoreEnd: fields.flag("ignore_eos"),
    format: tools.formats.read(fields.read("response_format")),
  };
  fields.end();
  if (maxTokens === 0 && !request.echo) throw wrong("max_tokens", 0, "at least 1, or echo");
  return request;
}

/** Refuses texts that are longer than any that fits, because their tokenization would take long. */
export function expectFitting(
  param: string,
  texts: readonly string[],
  { context, promptBytes }: RequestLimits,
): void {
  const bytes = texts.reduce((sum, text) => sum + utf8Length(text), 0);
  if (bytes <= promptBytes) return;
  throw new RefusedError(
    `Cannot use "${param}": found ${bytes} bytes, expected at most the ${promptBytes} that the model's ${context} tokens can hold`,
    param,
  );
}

/** Token ids of a model. */
export function readIds(param: string, ids: readonly unknown[], { vocabSize }: RequestLimits) {
  const odd = ids.find((id) => !Number.isInteger(id) || !((id as number) >= 0 && (id as number) < vocabSize));
  if (odd !== undefined) throw wrong(param, odd, `token ids from 0 to ${vocabSize - 1}`);
  return Int32Array.from(ids as number[]);
}

const isIds = (value: unknown) => Array.isArray(value) && typeof value[0] === "number";

/** A prompt or several. */
function listPrompts(prompt: unknown): readonly unknown[] {
  const list = Array.isArray(prompt) && !isIds(prompt) ? prompt : [prompt];
  if (list.length === 0) throw wrong("prompt", prompt, "at least one");
  return list;
}

/** A prompt: a text, or token ids. */
async function readPrompt(
  prompt: unknown,
  { encoder, limits }: RequestTools,
): Promise<Int32Array<ArrayBuffer>> {
  if (isIds(prompt)) return readIds("prompt", prompt as unknown[], limits);
  if (typeof prompt !== "string") {
    throw wrong("prompt", prompt ?? null, "a text, token ids, or a list of them");
  }
  expectFitting("prompt", [prompt], limits);
  const ids = await encoder.encode(prompt, { special: true }, "prompt");
  if (ids.length === 0) throw wrong("prompt", prompt, "a text of at least one token");
  return ids;
}

async function readMessages(
  messages: unknown,
  { tokenizer, encoder, limits }: RequestTools,
  offered: Tools | undefined,
): Promise<Int32Array<ArrayBuffer>> {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw wrong("messages", messages ?? null, "a list of messages");
  }
  const read = messages.map((message): ChatMessage => {
    const { role, content } = message ?? {};
    const said = content ?? (role === "assistant" ? "" : content); // an assistant's message may be empty
    const parts = Array.isArray(said) ? said : [{ type: "text", text: said }];
    if (
      typeof role !== "string" ||
      !parts.every((part) => part?.type === "text" && typeof part.text === "string")
    ) {
      throw wrong("messages", message, "a role and a content of text");
    }
    return { role, content: parts.map(({ text }) => text).join(""), ...readCalls(message as Body) };
  });
  const calls = read.flatMap(({ tool_calls = [] }) => tool_calls.map((call) => JSON.stringify(call)));
  expectFitting("messages", [...read.map(({ content }) => content), ...calls], limits);
  expectFitting("tools", offered?.list.map((tool) => JSON.stringify(tool)) ?? [], limits);
  try {
    return await encoder.encode(renderChat(tokenizer, read, offered?.list), CHAT_ENCODING, "messages");
  } catch (error) {
    if (error instanceof UsageError) throw new RefusedError(error.message, "messages");
    throw error;
  }
}

/**
 * Options of the choice; as with OpenAI, the temperature is 1 by default, and the seed random. A negative seed
 * counts from 2^64 down.
 */
function readSampling(fields: Fields): SamplingOptions {
  const names = { top_p: "topP", top_k: "topK", min_p: "minP", repetition_penalty: "repetitionPenalty" };
  const seed = fields.number("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  const given = Object.entries(names).flatMap(([field, name]) => {
    const value = fields.number(field);
    return value === undefined ? [] : [[name, value] as const];
  });
  const options = {
    temperature: fields.number("temperature") ?? 1,
    samplingSeed: Number.isSafeInteger(seed) ? BigInt.asUintN(64, BigInt(seed)) : seed,
    ...Object.fromEntries(given),
  };
  try {
    new Sampler(options);
  } catch (error) {
    const fieldOf = new Map(
      Object.entries({ ...names, seed: "samplingSeed" }).map(([field, name]) => [name, field]),
    );
    const [, name] = (error as Error).message.match(/option "(\w+)"/) ?? [],
      field = fieldOf.get(name!) ?? name!;
    throw new RefusedError((error as Error).message.replace(`option "${name}"`, `"${field}"`), field);
  }
  return options;
}

/** Most texts that end a text. */
const MAX_STOPS = 16;

function readStop(stop: unknown): string[] {
  const list = stop === undefined ? [] : [stop].flat();
  if (list.length <= MAX_STOPS && list.every((text) => typeof text === "string" && text !== "")) {
    return list as string[];
  }
  throw wrong("stop", stop, `at most ${MAX_STOPS} texts`);
}

function readLogprobs(kind: CompletionKind, fields: Fields): number | undefined {
  if (kind === "text") return fields.integer("logprobs", 0, MAX_LOGPROBS);
  const top = fields.integer("top_logprobs", 0, MAX_LOGPROBS);
  if (fields.flag("logprobs")) return top ?? 0;
  if (top !== undefined && top > 0) throw wrong("top_logprobs", top, '"logprobs": true with it');
  return undefined;
}
