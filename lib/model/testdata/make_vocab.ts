/**
 * Writes a model's vocabulary alone as GGUF, once for each `tokenizer.ggml.pre` given.
 * usage: deno run -A make_vocab.ts MODEL.gguf OUT_DIR smollm default gpt-2 …
 */
import { parseGguf } from "../formats/gguf.ts";
import { buildGguf, type Entry } from "./gguf_builder.ts";

const [model, outDir, ...pres] = Deno.args;
const gguf = parseGguf(await Deno.readFile(model!), model!);
const kept = [...gguf.metadata].filter(([key]) =>
  /^(general\.architecture|llama\..*|tokenizer\.ggml\..*)$/.test(key)
);
for (const pre of pres) {
  const entries = kept.map(([key, { type, elementType, value }]) =>
    [
      key,
      elementType === undefined ? type : [elementType],
      key === "tokenizer.ggml.pre" ? pre : value,
    ] as Entry
  );
  await Deno.writeFile(`${outDir}/${pre}.gguf`, buildGguf({ entries }));
}
