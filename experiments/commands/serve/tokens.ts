/** `/tokenize` and `/detokenize`, as llama.cpp's server has them. */
import { Fields, wrong } from "./fields.ts";
import { expectFitting, readIds, type RequestTools } from "./request.ts";

/** A text to token ids. @throws {RefusedError} If a field is missing, wrong or not known. */
export async function tokenize(body: unknown, { tokenizer, encoder, limits }: RequestTools): Promise<object> {
  const fields = new Fields(body), text = fields.read("content");
  if (typeof text !== "string") throw wrong("content", text ?? null, "a text");
  expectFitting("content", [text], limits);
  const bos = fields.flag("add_special") && tokenizer.bosId !== undefined;
  const special = fields.flag("parse_special", true), withPieces = fields.flag("with_pieces");
  fields.end();
  const ids = await encoder.encode(text, { bos, special }, "content");
  return { tokens: Array.from(ids, (id) => withPieces ? { id, piece: pieceOf(tokenizer.bytes(id)) } : id) };
}

/** Token ids to their text. @throws {RefusedError} As {@linkcode tokenize}. */
export function detokenize(body: unknown, { tokenizer, limits }: RequestTools): object {
  const fields = new Fields(body), ids = fields.read("tokens");
  if (!Array.isArray(ids)) throw wrong("tokens", ids ?? null, "a list of token ids");
  fields.end();
  return { content: tokenizer.decode(readIds("tokens", ids, limits)) };
}

/** A token's text; its bytes where they are none. */
function pieceOf(bytes: Uint8Array): string | number[] {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return [...bytes];
  }
}
