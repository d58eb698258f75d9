/** Settings of a tokenizer in the other files of its Hugging Face folder. */
import { ModelFormatError } from "../../errors.ts";
import type { Folder } from "../formats/_byte_source.ts";
import { parseObject } from "../formats/_keyed_file.ts";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  /** Whether it strips spaces next to it, or must be a single word: neither is supported for a tokenizer.model. */
  readonly strips?: boolean;
  /** The same of a tokenizer.json, side by side; and whether it is looked for in the text as it was made uniform. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
}

/** Settings of a tokenizer, as tokenizer_config.json, generation_config.json and chat_template.jinja give them. */
export interface TokenizerSettings {
  /** Whether a BOS comes first; this, like all that follows, is undefined by default. */
  readonly addsBos: boolean | undefined;
  /** Whether text after a special token begins like a whole text, as the first tokenizers of Llama had it. */
  readonly legacy: boolean | undefined;
  /** Whether a space is put before a text, where a setting besides the vocabulary decides it. */
  readonly addsSpace: boolean | undefined;
  /** Text of the token that begins a text, where it is named. */
  readonly bosToken: string | undefined;
  /** Text of the token that ends a text, where it is named. */
  readonly eosToken: string | undefined;
  /** Tokens that end a text, by generation_config.json. */
  readonly endIds: readonly number[];
  /** Tokens beyond those of the vocabulary's own file, ascending. */
  readonly added: readonly AddedToken[];
  readonly chatTemplate: string | undefined;
  /** Ids that the model has: those past the vocabulary's, which pad its tables, stand for no text. Default: no others. */
  readonly vocabSize?: number;
}

export const NO_SETTINGS: TokenizerSettings = {
  addsBos: undefined,
  legacy: undefined,
  addsSpace: undefined,
  bosToken: undefined,
  eosToken: undefined,
  endIds: [],
  added: [],
  chatTemplate: undefined,
};

type Json = { readonly [key: string]: unknown };

/**
 * Reads a folder's settings; files that are not there contain nothing.
 *
 * @throws {ModelFormatError} If a file is no JSON object, or a key has an invalid value.
 */
export async function readTokenizerSettings(folder: Folder, vocabSize?: number): Promise<TokenizerSettings> {
  const file = `${folder.path}/tokenizer_config.json`;
  const config = await readJson(folder, "tokenizer_config.json");
  const generation = await readJson(folder, "generation_config.json");
  const fail = (key: string, value: unknown, expected: string) =>
    new ModelFormatError(file, `"${key}": found ${JSON.stringify(value)}, expected ${expected}`);
  const flag = (key: string) => {
    const value = config[key] ?? undefined;
    if (value !== undefined && typeof value !== "boolean") throw fail(key, value, "true or false");
    return value;
  };
  const ends = [generation["eos_token_id"] ?? []].flat();
  const odd = ends.find((id) => !Number.isSafeInteger(id));
  if (odd !== undefined) {
    throw new ModelFormatError(
      `${folder.path}/generation_config.json`,
      `"eos_token_id": found ${JSON.stringify(odd)}, expected an id or a list of ids`,
    );
  }
  const template = await folder.text("chat_template.jinja") ?? findTemplate(config["chat_template"]);
  if (template !== undefined && typeof template !== "string") throw fail("chat_template", template, "a text");
  return {
    addsBos: flag("add_bos_token"),
    legacy: flag("legacy"),
    addsSpace: flag("add_prefix_space"),
    bosToken: tokenText(config["bos_token"]),
    eosToken: tokenText(config["eos_token"]),
    endIds: ends as number[],
    added: readAdded(config["added_tokens_decoder"], await readJson(folder, "added_tokens.json"), fail),
    chatTemplate: template,
    ...(vocabSize !== undefined && { vocabSize }),
  };
}

/** A single template, or the default one of several. */
function findTemplate(value: unknown): unknown {
  if (value === null) return undefined;
  if (!Array.isArray(value)) return value;
  return value.find((each: Json | null) => each?.["name"] === "default")?.template;
}

function tokenText(value: unknown): string | undefined {
  const text = typeof value === "object" && value !== null ? (value as Json)["content"] : value;
  return typeof text === "string" ? text : undefined;
}

function readAdded(
  decoder: unknown,
  more: Json,
  fail: (key: string, value: unknown, expected: string) => ModelFormatError,
): AddedToken[] {
  const added = new Map<number, AddedToken>();
  for (const [content, id] of Object.entries(more)) {
    added.set(Number(id), { id: Number(id), content, special: false });
  }
  for (const [id, token] of Object.entries((decoder ?? {}) as Json)) {
    const content = tokenText(token);
    if (content === undefined) throw fail("added_tokens_decoder", token, "a token with its content");
    const { lstrip, rstrip, single_word: alone } = token as Json;
    const strips = lstrip === true || rstrip === true || alone === true;
    added.set(Number(id), {
      id: Number(id),
      content,
      special: (token as Json)["special"] === true,
      ...strips && { strips },
    });
  }
  const list = [...added.values()].sort((a, b) => a.id - b.id);
  const odd = list.find(({ id }) => !Number.isSafeInteger(id) || id < 0);
  if (odd !== undefined) throw fail("added_tokens_decoder", odd, "whole numbers for ids");
  return list;
}

async function readJson(folder: Folder, name: string): Promise<Json> {
  const text = await folder.text(name);
  return text === undefined ? {} : parseObject(`${folder.path}/${name}`, text, "a tokenizer's settings");
}
