// Times llama.cpp through node-llama-cpp: prefill of a prompt and greedy decode, medians of several runs.
//
// usage: node llama_cpp_speed.mjs MODEL.gguf --modules DIR [--threads 2] [--prompt 512] [--decode 128] [--runs 5]
//        DIR holds the node_modules folder with node-llama-cpp (npm install node-llama-cpp@3.21.1, prebuilt)
//
// n_batch = n_ubatch = the prompt's length, CPU only. Prefill asks for the logits of the last token alone, as a prompt
// does; decode is one token at a time, sampling (greedy) included. The weights are read in beforehand.
// Prints JSON: { prefillTimeMs, decodeTimeMs, prefillTokensPerS, decodeTokensPerS, … }.
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(
    ["modules", "threads", "prompt", "decode", "runs"].map((name) => [name, { type: "string" }]),
  ),
});
const number = (name, fallback) => Number(values[name] ?? fallback);
const threads = number("threads", 2), prompt = number("prompt", 512), decode = number("decode", 128);
const runs = number("runs", 5);
const entry = createRequire(join(values.modules, "x.js")).resolve("node-llama-cpp");
const { getLlama } = await import(pathToFileURL(entry).href);

const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
const model = await llama.loadModel({ modelPath: positionals[0], gpuLayers: 0 });
const context = await model.createContext({
  contextSize: prompt + decode + 8,
  batchSize: prompt,
  threads: { ideal: threads, min: threads },
});
const sequence = context.getSequence();
const vocab = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
const tokens = Array.from({ length: prompt }, (_, i) => 300 + (i * 7919) % (vocab - 300));

/** Prefill ends when the first new token is there; decode is the `decode` tokens after it. */
async function run() {
  await sequence.clearHistory();
  const start = performance.now();
  let first = 0, count = 0;
  // Nothing is an end of text here: runs must have one length.
  const options = { temperature: 0, yieldEogToken: true };
  for await (const _ of sequence.evaluate(tokens, options)) {
    if (count++ === 0) first = performance.now();
    if (count > decode) break;
  }
  if (count !== decode + 1) {
    throw new Error(`Cannot time decode: found ${count} tokens, expected ${decode + 1}`);
  }
  return [first - start, performance.now() - first];
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
await run();
const times = [];
for (let i = 0; i < runs; i++) times.push(await run());
const prefillTimeMs = median(times.map((t) => t[0])), decodeTimeMs = median(times.map((t) => t[1]));
console.log(JSON.stringify({
  engine: "node-llama-cpp",
  threads: context.currentThreads,
  prefillTimeMs,
  decodeTimeMs,
  prefillTokensPerS: prompt / prefillTimeMs * 1e3,
  decodeTokensPerS: decode / decodeTimeMs * 1e3,
  runs: times,
}));
process.exit(0);
