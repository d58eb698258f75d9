/** Answers in the shapes of OpenAI's API. */
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";
import type { ScoredToken, TextEnd, TextPiece } from "./completion.ts";
import { addCounts, countSavings } from "./metrics.ts";
import type { CompletionRequest } from "./request.ts";
import { findCalls, type FoundCall } from "./tools.ts";

export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  /** How the server computes: the rounding of its products. Answers with different ones are not to be mixed. */
  readonly system_fingerprint: string;
}

/** A token as text for a client. Bytes that are no text are written out, and special tokens have their names. */
function showToken(tokenizer: Tokenizer, id: number): string {
  const bytes = tokenizer.bytes(id);
  if (bytes.length === 0) return tokenizer.piece(id);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}

/** Probabilities in the shape of completions. @param offset characters of the text before these tokens */
function completionLogprobs(tokenizer: Tokenizer, tokens: readonly ScoredToken[], offset: number) {
  let at = offset;
  const places = tokens.map(({ id }) => {
    const place = at;
    at += new TextDecoder().decode(tokenizer.bytes(id)).length;
    return place;
  });
  return {
    tokens: tokens.map(({ id }) => showToken(tokenizer, id)),
    token_logprobs: tokens.map(({ logProbability }) => logProbability),
    top_logprobs: tokens.map(({ id, logProbability, top }) => {
      if (logProbability === null) return null;
      const all = [...top, { id, logProbability }];
      return Object.fromEntries(all.map((each) => [showToken(tokenizer, each.id), each.logProbability]));
    }),
    text_offset: places,
  };
}

function chatLogprobs(tokenizer: Tokenizer, tokens: readonly ScoredToken[]) {
  const show = (id: number, logprob: number) => ({
    token: showToken(tokenizer, id),
    logprob,
    bytes: [...tokenizer.bytes(id)],
  });
  return {
    content: tokens.map(({ id, logProbability, top }) => ({
      ...show(id, logProbability!),
      top_logprobs: top.map((each) => show(each.id, each.logProbability)),
    })),
    refusal: null,
  };
}

function logprobsOf(
  tokenizer: Tokenizer,
  request: CompletionRequest,
  tokens: readonly ScoredToken[],
  offset: number,
) {
  if (request.logprobs === undefined) return null;
  return request.kind === "text"
    ? completionLogprobs(tokenizer, tokens, offset)
    : chatLogprobs(tokenizer, tokens);
}

/** Name of an answer's type, or of a part of a stream. */
const objectOf = ({ kind, stream }: CompletionRequest) =>
  kind === "text" ? "text_completion" : stream ? "chat.completion.chunk" : "chat.completion";

/** Counts of tokens, and the filter's savings, over all texts of a request. */
function usageOf(request: CompletionRequest, ends: readonly TextEnd[]) {
  const prompt = request.prompts.reduce((total, { length }) => total + length, 0),
    made = ends.reduce((total, { tokens }) => total + tokens, 0);
  const tokenfilter: { [count: string]: number } = {};
  for (const { usage } of ends) addCounts(tokenfilter, countSavings(usage));
  return { prompt_tokens: prompt, completion_tokens: made, total_tokens: prompt + made, tokenfilter };
}

export interface WholeText extends TextPiece {
  readonly end: TextEnd;
}

/** A chat's message, and why it has ended: calls of tools, where the text has sound ones. */
function messageOf({ tools }: CompletionRequest, text: string, finish: TextEnd["finish"]) {
  const found = tools && finish === "stop" ? findCalls(text, tools) : undefined;
  const { content, calls } = found ?? { content: text, calls: undefined };
  return {
    message: { role: "assistant", content, refusal: null, ...(calls && { tool_calls: calls }) },
    finish_reason: calls === undefined ? finish : "tool_calls",
  };
}

export function wholeAnswer(
  head: AnswerHead,
  request: CompletionRequest,
  tokenizer: Tokenizer,
  texts: readonly WholeText[],
) {
  return {
    ...head,
    object: objectOf(request),
    choices: texts.map(({ text, tokens, end }, index) => ({
      index,
      ...(request.kind === "text"
        ? { text, finish_reason: end.finish }
        : messageOf(request, text, end.finish)),
      logprobs: logprobsOf(tokenizer, request, tokens, 0),
    })),
    usage: usageOf(request, texts.map(({ end }) => end)),
  };
}

/** What a part of a stream has. */
export interface StreamedPiece extends TextPiece {
  readonly calls?: readonly FoundCall[];
  readonly finish?: TextEnd["finish"] | "tool_calls";
}

/** A part of a streamed answer: a piece of one text, or its end. @param offset characters of the text before it */
export function streamedPart(
  head: AnswerHead,
  request: CompletionRequest,
  tokenizer: Tokenizer,
  index: number,
  piece: StreamedPiece,
  offset: number,
) {
  const { text, tokens, calls, finish = null } = piece, isChat = request.kind === "chat";
  const delta = {
    ...(offset === 0 && finish === null && { role: "assistant" }),
    ...(text !== "" && { content: text }),
    ...(calls && { tool_calls: calls.map((call, index) => ({ index, ...call })) }),
  };
  return {
    ...head,
    object: objectOf(request),
    choices: [{
      index,
      ...(isChat ? { delta } : { text }),
      logprobs: tokens.length === 0 ? null : logprobsOf(tokenizer, request, tokens, offset),
      finish_reason: finish,
    }],
  };
}

/** The last part of a streamed answer, where a client asks for counts. */
export function streamedEnd(head: AnswerHead, request: CompletionRequest, ends: readonly TextEnd[]) {
  return { ...head, object: objectOf(request), choices: [], usage: usageOf(request, ends) };
}
