/** What a client asks for: bodies of OpenAI's completions and chat completions, checked field by field. */
import { UsageError } from "../../../lib/errors.ts";
import {
  type ChatMessage,
  encodeChat,
  Sampler,
  type SamplingOptions,
  type Tokenizer,
} from "../../../lib/model/mod.ts";

/** A request that cannot be answered, and the field that is wrong. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly param: string | null;
  readonly status: number;

  /** @param message what is wrong, and the fix */
  constructor(message: string, param: string | null = null, status = 400) {
    super(message);
    this.param = param;
    this.status = status;
  }
}

export interface CompletionRequest {
  readonly kind: "text" | "chat";
  /** The model's name, as the client has it. */
  readonly model: string;
  readonly prompts: readonly Int32Array<ArrayBuffer>[];
  readonly n: number;
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Texts that end a text; they are not part of it. */
  readonly stop: readonly string[];
  /** How many of the likeliest tokens are told at each position; undefined: no probabilities. */
  readonly logprobs: number | undefined;
  readonly echo: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly ignoreEnd: boolean;
}

interface RequestLimits {
  /** Tokens of a prompt and its text together. */
  readonly context: number;
  readonly vocabSize: number;
}

/** Most texts that one request may ask for. */
const MAX_CHOICES = 128;
/** Most of the likeliest tokens at a position, as with OpenAI's chat. */
const MAX_LOGPROBS = 20;
/** Tokens of a completion where nothing is said, as with OpenAI. */
const DEFAULT_TOKENS = 16;

/** Fields that do nothing here, each with whether a value asks for nothing. */
const NEUTRAL: { readonly [field: string]: (value: unknown) => boolean } = {
  frequency_penalty: (x) => x === 0,
  presence_penalty: (x) => x === 0,
  logit_bias: (x) => typeof x === "object" && Object.keys(x!).length === 0,
  best_of: (x) => x === 1,
  suffix: (x) => x === "",
  tools: (x) => Array.isArray(x) && x.length === 0,
  response_format: (x) => (x as { type?: unknown }).type === "text",
  user: () => true,
  metadata: () => true,
  store: (x) => x === false,
};

type Body = { readonly [field: string]: unknown };

const wrong = (param: string, value: unknown, expected: string) =>
  new RequestError(
    `Cannot use "${param}": found ${JSON.stringify(value)?.slice(0, 80)}, expected ${expected}`,
    param,
  );

/** Reads fields of a body, and knows which were not read. */
class Fields {
  readonly #body: Body;
  readonly #left: Set<string>;

  constructor(body: Body) {
    this.#body = body;
    this.#left = new Set(Object.keys(body).filter((name) => body[name] !== null && body[name] !== undefined));
  }

  read(name: string): unknown {
    const value = this.#left.has(name) ? this.#body[name] : undefined;
    this.#left.delete(name);
    return value;
  }

  number(name: string): number | undefined {
    const value = this.read(name);
    if (value === undefined || typeof value === "number") return value;
    throw wrong(name, value, "a number");
  }

  integer(name: string, least: number, most: number): number | undefined {
    const value = this.number(name);
    if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return value;
    throw wrong(name, value, `an integer from ${least} to ${most}`);
  }

  flag(name: string): boolean {
    const value = this.read(name) ?? false;
    if (typeof value === "boolean") return value;
    throw wrong(name, value, "true or false");
  }

  /** @throws {RequestError} If a field asks for what is not done here. */
  end(): void {
    for (const name of this.#left) {
      if (Object.hasOwn(NEUTRAL, name) && NEUTRAL[name]!(this.#body[name])) continue;
      throw new RequestError(`Cannot use "${name}": this server does not have it`, name);
    }
  }
}

/**
 * Checks a body.
 *
 * @throws {RequestError} If a field is missing, of the wrong kind, out of range, or not known; the error names it.
 */
export function readRequest(
  kind: CompletionRequest["kind"],
  body: unknown,
  tokenizer: Tokenizer,
  limits: RequestLimits,
): CompletionRequest {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new RequestError("Cannot read the request: expected a JSON object");
  }
  const fields = new Fields(body as Body), model = fields.read("model");
  if (typeof model !== "string") throw wrong("model", model ?? null, "a model's name");
  const prompts = kind === "text"
    ? readPrompts(fields.read("prompt"), tokenizer, limits)
    : [readMessages(fields.read("messages"), tokenizer)];
  const n = fields.integer("n", 1, MAX_CHOICES) ?? 1;
  if (n * prompts.length > MAX_CHOICES) {
    throw new RequestError(
      `Cannot make ${n * prompts.length} texts: expected at most ${MAX_CHOICES}`,
      "prompt",
    );
  }
  const longest = Math.max(...prompts.map(({ length }) => length)), room = limits.context - longest;
  const most = kind === "chat" ? "max_completion_tokens" : "max_tokens";
  const asked = fields.integer("max_tokens", 0, 1e9) ??
    (kind === "chat" ? fields.integer(most, 0, 1e9) : undefined);
  const maxTokens = asked ?? (kind === "text" ? DEFAULT_TOKENS : Math.max(room, 1));
  if (maxTokens > room) {
    throw new RequestError(
      `Cannot go on for ${maxTokens} tokens after a prompt of ${longest}: the model takes ${limits.context} together`,
      most,
    );
  }
  const request = {
    ...{ kind, model, prompts, n, maxTokens },
    sampling: readSampling(fields),
    stop: readStop(fields.read("stop")),
    logprobs: readLogprobs(kind, fields),
    echo: kind === "text" && fields.flag("echo"),
    stream: fields.flag("stream"),
    includeUsage:
      (fields.read("stream_options") as { include_usage?: unknown } | undefined)?.include_usage === true,
    ignoreEnd: fields.flag("ignore_eos"),
  };
  fields.end();
  if (maxTokens === 0 && !request.echo) throw wrong("max_tokens", 0, "at least 1, or echo");
  return request;
}

/** A prompt or several, each a text or token ids. */
function readPrompts(prompt: unknown, tokenizer: Tokenizer, { vocabSize }: RequestLimits) {
  const isIds = (value: unknown) => Array.isArray(value) && typeof value[0] === "number";
  const list = Array.isArray(prompt) && !isIds(prompt) ? prompt : [prompt];
  if (list.length === 0) throw wrong("prompt", prompt, "at least one");
  return list.map((each) => {
    if (isIds(each)) {
      const odd = (each as unknown[]).find((id) =>
        !Number.isInteger(id) || !((id as number) >= 0 && (id as number) < vocabSize)
      );
      if (odd !== undefined) throw wrong("prompt", odd, `token ids from 0 to ${vocabSize - 1}`);
      return Int32Array.from(each as number[]);
    }
    if (typeof each !== "string") throw wrong("prompt", each ?? null, "a text, token ids, or a list of them");
    const ids = tokenizer.encode(each, { special: true });
    if (ids.length === 0) throw wrong("prompt", each, "a text of at least one token");
    return ids;
  });
}

function readMessages(messages: unknown, tokenizer: Tokenizer): Int32Array<ArrayBuffer> {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw wrong("messages", messages ?? null, "a list of messages");
  }
  const read = messages.map((message): ChatMessage => {
    const { role, content } = message ?? {};
    const parts = Array.isArray(content) ? content : [{ type: "text", text: content }];
    if (
      typeof role !== "string" ||
      !parts.every((part) => part?.type === "text" && typeof part.text === "string")
    ) {
      throw wrong("messages", message, "a role and a content of text");
    }
    return { role, content: parts.map(({ text }) => text).join("") };
  });
  try {
    return encodeChat(tokenizer, read);
  } catch (error) {
    if (error instanceof UsageError) throw new RequestError(error.message, "messages");
    throw error;
  }
}

/** Options of the choice; as with OpenAI, the temperature is 1 where nothing is said, and the seed by chance. */
function readSampling(fields: Fields): SamplingOptions {
  const names = { top_p: "topP", top_k: "topK", min_p: "minP", repetition_penalty: "repetitionPenalty" };
  const seed = fields.number("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  const given = Object.entries(names).flatMap(([field, name]) => {
    const value = fields.number(field);
    return value === undefined ? [] : [[name, value] as const];
  });
  const options = {
    temperature: fields.number("temperature") ?? 1,
    samplingSeed: seed,
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
    throw new RequestError((error as Error).message.replace(`option "${name}"`, `"${field}"`), field);
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

function readLogprobs(kind: CompletionRequest["kind"], fields: Fields): number | undefined {
  if (kind === "text") return fields.integer("logprobs", 0, MAX_LOGPROBS);
  const top = fields.integer("top_logprobs", 0, MAX_LOGPROBS);
  if (fields.flag("logprobs")) return top ?? 0;
  if (top !== undefined && top > 0) throw wrong("top_logprobs", top, '"logprobs": true beside it');
  return undefined;
}
