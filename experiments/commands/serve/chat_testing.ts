/** A model that chats, for tests: `tiny` with a template. */
import { parseGguf } from "../../../lib/model/mod.ts";
import { buildGguf, type Entry } from "../../../lib/model/testdata/gguf_builder.ts";

const TINY = new URL("../../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);
const TYPE_CODES: { readonly [dtype: string]: number } = { f32: 0, f16: 1, q8_0: 8 };

/** A chat template: the text of each message, and the role of the next one. */
const TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content + ' ' }}{% endfor %}" +
  "{% if add_generation_prompt %}She said:{% endif %}";

/** Writes it. @returns the path */
export async function writeChatModel(folder: string): Promise<string> {
  const gguf = parseGguf(await Deno.readFile(TINY), "tiny");
  const entries = Array.from(
    gguf.metadata,
    ([key, { type, elementType, value }]) => [key, elementType === undefined ? type : [elementType], value],
  ) as unknown as Entry[];
  const tensors = Array.from(gguf.tensors, ([name, { dtype, shape, data }]) => ({
    name,
    dims: shape.toReversed(),
    type: TYPE_CODES[dtype]!,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }));
  const path = `${folder}/chat.gguf`;
  const template: Entry = ["tokenizer.chat_template", "string", TEMPLATE];
  await Deno.writeFile(path, buildGguf({ entries: [...entries, template], tensors }));
  return path;
}
