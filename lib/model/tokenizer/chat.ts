/** Conversations: messages to a text by the model's own template, and to token ids. */
import { UsageError } from "../../errors.ts";
import { renderTemplate } from "./_chat_template.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One message of a conversation. */
export interface ChatMessage {
  /** The speaker: `system`, `user`, `assistant`, or another role of the template. */
  readonly role: string;
  /** Text of the message. */
  readonly content: string;
  /** Tools that an assistant's message calls. */
  readonly tool_calls?: readonly {
    readonly id?: string;
    readonly type: "function";
    readonly function: { readonly name: string; readonly arguments: object };
  }[];
  /** The call that a message of the role `tool` answers. */
  readonly tool_call_id?: string;
  /** Name of the speaker, or of the tool that answers. */
  readonly name?: string;
}

/**
 * A conversation as the text that the model was trained on, up to where the assistant speaks next.
 *
 * @param tokenizer The model's tokenizer, or its needed members: the template, and the texts of BOS and EOS.
 * @param tools Descriptions of tools, as the template reads them: as in requests to OpenAI. Default: none.
 * @throws {UsageError} If the model has no template, or the template refuses the messages or takes far more steps, memory
 * or text than they need.
 *
 * @example
 * ```ts
 * import { renderChat } from "@tokenfilter/tokenfilter/model";
 * const chatTemplate = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}model:";
 * const tokenizer = { chatTemplate, bosId: 1, eosId: 2, piece: (id: number) => id === 1 ? "<s>" : "</s>" };
 * console.assert(renderChat(tokenizer, [{ role: "user", content: "Hi" }]) === "<s>user: Hi\nmodel:");
 * ```
 */
export function renderChat(
  tokenizer: Pick<Tokenizer, "chatTemplate" | "bosId" | "eosId" | "piece">,
  messages: readonly ChatMessage[],
  tools: readonly object[] = [],
): string {
  const { chatTemplate, bosId, eosId } = tokenizer;
  if (chatTemplate === undefined) {
    throw new UsageError(
      "Cannot chat: the model's files have no chat template, expected those of an instruct model",
    );
  }
  const text = (id: number | undefined) => id === undefined ? "" : tokenizer.piece(id);
  try {
    return renderTemplate(chatTemplate, {
      messages,
      ...(tools.length > 0 && { tools }),
      add_generation_prompt: true,
      bos_token: text(bosId),
      eos_token: text(eosId),
    });
  } catch (error) {
    const [line] = (error as Error).message.split("\n");
    throw new UsageError(`Cannot write these messages by the model's chat template: ${line}`);
  }
}

/** @internal How the text of a template is encoded: special tokens in it are tokens, and it begins with its own BOS. */
export const CHAT_ENCODING = { bos: false, special: true } as const;

/**
 * Token ids of a conversation. Special tokens in the template's text are tokens. There is at most one BOS, where the
 * template writes one, as in Hugging Face transformers.
 *
 * @throws {UsageError} As {@linkcode renderChat}.
 * @returns Token ids, [tokens] i32.
 */
export function encodeChat(tokenizer: Tokenizer, messages: readonly ChatMessage[]): Int32Array<ArrayBuffer> {
  return tokenizer.encode(renderChat(tokenizer, messages), CHAT_ENCODING);
}
