/**
 * Writes each vocabulary of vocabularies.ts as OUT_DIR/NAME.gguf, or only that of a model as OUT_DIR/vocab.gguf.
 * usage: deno run -A make_vocab.ts OUT_DIR [MODEL.gguf]
 */
import { parseGguf } from "../formats/gguf.ts";
import { buildGguf } from "./gguf_builder.ts";
import { VOCABULARY_NAMES, vocabularyBytes, vocabularyEntries } from "./vocabularies.ts";

const [outDir, model] = Deno.args;
if (model !== undefined) {
  const entries = vocabularyEntries(parseGguf(await Deno.readFile(model), model));
  await Deno.writeFile(`${outDir}/vocab.gguf`, buildGguf({ entries }));
} else {
  for (const name of VOCABULARY_NAMES) {
    await Deno.writeFile(`${outDir}/${name}.gguf`, await vocabularyBytes(name));
  }
}
