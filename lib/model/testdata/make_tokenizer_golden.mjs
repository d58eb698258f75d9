/**
 * Prints tokenizer_golden.json: token ids of the mixed text by llama.cpp, special tokens in the text not parsed.
 * usage: npm install node-llama-cpp@3.21.1, then node make_tokenizer_golden.mjs NAME=FILE.gguf …
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { mixedText } from "./mixed_text.mjs";

// Not a dependency of this project, so not a static import.
const library = "node-llama-cpp";
const { getLlama } = await import(library);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const text = mixedText();
const out = {
  source: `node-llama-cpp 3.21.1, llama.cpp ${llama.llamaCppRelease.release}`,
  textSha256: createHash("sha256").update(text).digest("hex"),
};
for (const [name, file] of process.argv.slice(2).map((arg) => arg.split("="))) {
  const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
  const ids = Int32Array.from(model.tokenize(text, false));
  const sha256 = createHash("sha256").update(new Uint8Array(ids.buffer)).digest("hex");
  out[name] = { count: ids.length, sha256, first: [...ids.subarray(0, 40)] };
}
process.stdout.write(JSON.stringify(out, null, 1) + "\n");
process.exit(0);
