/**
 * Prints tokenizer_golden.json: token ids of the sample and of the mixed text by llama.cpp, special tokens in the text
 * not parsed, and of texts with special tokens, parsed. usage: npm install node-llama-cpp@3.21.1, then node make_tokenizer_golden.mjs FOLDER_OF_MAKE_VOCAB
 */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import process from "node:process";
import { mixedText, sampleText } from "./mixed_text.mjs";

// Not a dependency of this project, so not a static import.
const library = "node-llama-cpp";
const { getLlama } = await import(library);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const text = mixedText(), sample = sampleText(), folder = process.argv[2];
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const SPECIAL = [
  "<s>Hi</s> there",
  "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n",
  "no token: <|im_begin|> <unk> <s><s>the best",
];
const vocabularies = {};
for (const file of readdirSync(folder).sort()) {
  const model = await llama.loadModel({ modelPath: `${folder}/${file}`, vocabOnly: true });
  const ids = Int32Array.from(model.tokenize(text, false));
  vocabularies[file.replace(".gguf", "")] = {
    addsBos: model.tokens.shouldPrependBosToken,
    mixed: { count: ids.length, sha256: sha256(new Uint8Array(ids.buffer)) },
    sample: [...model.tokenize(sample, false)],
    special: SPECIAL.map((text) => [...model.tokenize(text, true)]),
  };
}
const source = `node-llama-cpp 3.21.1, llama.cpp ${llama.llamaCppRelease.release}`;
const entries = Object.entries(vocabularies).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
process.stdout.write(`{
"source": "${source}",
"mixedSha256": "${sha256(text)}",
"sampleSha256": "${sha256(sample)}",
"special": ${JSON.stringify(SPECIAL)},
"vocabularies": {\n${entries.join(",\n")}\n}}\n`);
process.exit(0);
