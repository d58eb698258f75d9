/** Items in a model's tokens, split into contexts and continuations as lm-evaluation-harness splits them. */
import { type Pruner, takesWhole } from "../../methods/protocol/pruner.ts";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.ts";
import type { Item, ItemRequest } from "./item.ts";
import { stripEnd } from "./python_text.ts";

export interface EncodedRequest {
  /** Ids that are not scored, at least one. */
  readonly context: Int32Array<ArrayBuffer>;
  /** Ids that are scored, at least one. */
  readonly continuation: Int32Array<ArrayBuffer>;
}

/** @internal An item in tokens. */
export interface EncodedItem {
  readonly item: Item;
  readonly requests: readonly EncodedRequest[];
  /** Tokens at the start of its contexts that are computed for all items with the same; 0 = none. */
  readonly shared: number;
  /** How ids become the text that answers are looked for in, where an item asks for one. */
  readonly decode?: (ids: readonly number[]) => string;
  readonly endIds?: ReadonlySet<number>;
}

/**
 * A request's ids as lm-evaluation-harness makes them. The context is tokenized by itself without the spaces at its
 * end. The continuation is the rest of the whole text's tokens after that number of tokens, so it begins with these
 * spaces. Special tokens that are spelled out in a text are tokens. A sequence that is too long loses its start.
 *
 * @param most Tokens that the model may be fed, the last token of a sequence not among them.
 * @throws {RangeError} If the continuation has no token of its own, or more than `most`.
 */
export function encodeRequest(
  tokenizer: Pick<Tokenizer, "encode" | "bosId">,
  { context, continuation }: ItemRequest,
  most = Infinity,
): EncodedRequest {
  const stem = stripEnd(context);
  const whole = tokenizer.encode(context + continuation, { special: true });
  let before = tokenizer.encode(stem, { special: true });
  const scored = whole.slice(before.length);
  if (before.length === 0) {
    if (tokenizer.bosId === undefined) throw new RangeError("found an empty context, expected a text");
    before = Int32Array.of(tokenizer.bosId);
  }
  if (scored.length === 0 || scored.length > most) {
    const found = `found ${scored.length} tokens for ${JSON.stringify(continuation)}`;
    throw new RangeError(`${found}, expected at least one${most === Infinity ? "" : ` and at most ${most}`}`);
  }
  const cut = Math.max(before.length + scored.length - 1 - most, 0);
  return { context: before.slice(cut), continuation: scored };
}

/**
 * The ids of a prompt that a text is generated for: the last ones of the whole context, and of the answer to score the first
 * ones, no more than are generated.
 *
 * @param most Tokens of the prompt that the model may be fed.
 * @throws {RangeError} If the answer has no token of its own.
 */
function encodePrompt(
  tokenizer: Pick<Tokenizer, "encode" | "bosId">,
  { context, continuation }: ItemRequest,
  most: number,
  maxTokens: number,
): EncodedRequest {
  const before = tokenizer.encode(context, { special: true });
  const after = tokenizer.encode(context + continuation, { special: true }).slice(before.length);
  if (before.length === 0 || after.length === 0 || most < 1) {
    const found = before.length === 0 ? "an empty context" : `no token of ${JSON.stringify(continuation)}`;
    throw new RangeError(
      most < 1
        ? `found ${maxTokens} tokens to generate, expected fewer than the model reads`
        : `found ${found}, expected a text`,
    );
  }
  return { context: before.slice(-most), continuation: after.slice(0, maxTokens) };
}

/**
 * An item's ids.
 *
 * @param most As {@linkcode encodeRequest} has it.
 * @throws {RangeError} As {@linkcode encodeRequest}; the message names file and line.
 */
export function encodeItem(
  tokenizer:
    & Pick<Tokenizer, "encode" | "bosId">
    & Partial<Pick<Tokenizer, "decode" | "decodeStream" | "endIds">>,
  item: Item,
  most = Infinity,
): EncodedItem {
  try {
    const { sought } = item, left = most - (sought?.maxTokens ?? 0);
    const requests = item.requests.map((request) =>
      sought?.until === undefined
        ? encodeRequest(tokenizer, request, left)
        : encodePrompt(tokenizer, request, left, sought.maxTokens)
    );
    const start = item.shared === undefined ? [] : tokenizer.encode(item.shared, { special: true });
    const common = requests.map(({ context }) => {
      const end = context.findIndex((id, i) => id !== start[i]);
      return Math.min(end < 0 ? context.length : end, context.length - 1);
    });
    const decode = (ids: readonly number[]) => {
      if (sought?.until === undefined) return tokenizer.decode!(Int32Array.from(ids));
      const stream = tokenizer.decodeStream!(requests[0]!.context);
      return ids.map((id) => stream.next(id)).join("") + stream.end();
    };
    return {
      ...{ item, requests, shared: Math.min(...common) },
      ...(sought && { decode, endIds: tokenizer.endIds! }),
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RangeError(`Cannot score ${item.place}: ${error.message}`);
  }
}

/**
 * Checks that a method can answer an item.
 *
 * @returns Whether it is non-causal: each request is then a whole sequence.
 * @throws {RangeError} If the item asks for a text, and the method is non-causal.
 *
 * @example
 * ```ts
 * checkScorable({ place: "line 1" }, { at: "prefill" }); // its continuations are given
 * ```
 */
export function checkScorable(
  { place, sought }: Pick<Item, "place" | "sought">,
  pruner: Pick<Pruner, "at" | "keySide">,
): boolean {
  const ahead = takesWhole(pruner);
  if (!ahead || sought === undefined) return ahead;
  throw new RangeError(
    `Cannot score ${place}: it asks for a text, which a non-causal method cannot make`,
  );
}
