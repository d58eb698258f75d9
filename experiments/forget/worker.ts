/// <reference lib="deno.worker" />
/** A model at work beside the page: opens it, and runs texts through it with a method and without. */
import { openWasm } from "../../ffi/wasm/mod.ts";
import { scoreSequence, type SequenceScore } from "../../lib/eval/sequence_score.ts";
import {
  createPruner,
  findMethod,
  KEY_RULE_NAMES,
  METHOD_NAMES,
  type MethodOptions,
  type Pruner,
  resolveOptions,
} from "../../lib/methods/mod.ts";
import { type LoadedModel, openModel } from "../../lib/model/open.ts";
import { findRetrievalLayers, retrievalScores } from "../../lib/model/retrieval.ts";
import type { Answered, Asked, Request } from "./messages.ts";

/** A longer text takes longer than a reader waits. */
const MOST_TOKENS = 1024;
/** Tokens below which a text is short, and windows for short and other texts. */
const SHORT = { tokens: 256, span: 8, otherwise: 32 };

let loaded: LoadedModel | undefined;
/** Whether the model copies what it has read, once that was asked. */
let copies: boolean | undefined;
/** The last text, and the full model's losses of it. */
let full:
  | { readonly text: string; readonly ids: Int32Array<ArrayBuffer>; readonly score: SequenceScore }
  | undefined;

const answer = (message: Answered) => postMessage(message);
const offer = (names: readonly string[]) => names.map((name) => [name, findMethod(name)!.help] as const);
const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;

async function open({ name, model, wasm }: Extract<Request, { kind: "open" }>): Promise<void> {
  const began = performance.now(), backend = await openWasm({ wasm: new Uint8Array(wasm) });
  loaded = await openModel(new Uint8Array(model), backend, { name });
  full = copies = undefined;
  const { numLayers: layers, numKvHeads: kvHeads } = loaded.config, { description } = backend;
  const methods = { key: offer(KEY_RULE_NAMES), query: offer(METHOD_NAMES) };
  const milliseconds = performance.now() - began;
  answer({ kind: "opened", name, backend: description, layers, kvHeads, milliseconds, methods });
}

function optionsOf({ method, side, whole, ratio }: Asked, span: number): MethodOptions {
  const own = side === "key"
    ? { side, kvFusion: method, whole, tail: 1 }
    : { ...side === "query" && { side }, fusion: method };
  return { ...own, pruneRatio: ratio, warmup: span, recent: span, block: span } as MethodOptions;
}

function run(asked: Asked): void {
  if (loaded === undefined) throw new RangeError("Cannot run a text: found no model, expected one");
  const { model, tokenizer, config } = loaded, { text } = asked;
  if (full?.text !== text) {
    const ids = tokenizer.encode(text, { bos: tokenizer.addsBos });
    if (ids.length < 2) {
      throw new RangeError(`Cannot run a text of ${ids.length} tokens: expected at least 2`);
    }
    full = {
      text,
      ids,
      score: scoreSequence(model, ids.slice(0, Math.min(config.contextLength, MOST_TOKENS))),
    };
  }
  const { ids: all, score: dense } = full, count = dense.nll.length + 1, ids = all.slice(0, count);
  const span = count < SHORT.tokens ? SHORT.span : SHORT.otherwise;
  const context = { backend: model.backend, retrieval: retrievalScores(loaded) };
  const pruner = asked.ratio === 0
    ? undefined
    : createPruner("token-filtering", config, resolveOptions(optionsOf(asked, span)), context);
  const score = pruner === undefined ? dense : scoreSequence(model, ids, pruner), { usage, nll } = score;
  const isScored = asked.side === "key" && asked.whole !== "none";
  if (isScored) copies ??= findRetrievalLayers(loaded).copies;
  answer({
    ...{ kind: "ran", asked, span, tokens: tokenizer.texts(ids), cut: all.length - count },
    ...{ layers: config.numLayers, kvHeads: config.numKvHeads, ...heldOf(score, pruner, count) },
    added: Float32Array.from(ids, (_, t) => t === 0 ? 0 : nll[t - 1]! - dense.nll[t - 1]!),
    losses: [mean(dense.nll), mean(nll)],
    cache: usage.kvBytesHeld / (usage.kvBytesHeld + usage.kvBytesAvoided),
    work: 1 - usage.attentionFlopsAvoided / usage.attentionFlopsDense,
    isGuess: isScored && copies === false,
  });
}

/** What each head has of each token, and which heads are whole. */
function heldOf(
  { layers, keep, kvLayers, kvKeep }: SequenceScore,
  pruner: Pruner | undefined,
  count: number,
) {
  const { numLayers, numKvHeads } = loaded!.config, { whole: wholeLayers, heads } = pruner?.keySide ?? {};
  const held = new Float32Array(numLayers * numKvHeads * count),
    whole = new Uint8Array(numLayers * numKvHeads);
  for (let row = 0; row < whole.length; row++) {
    const layer = Math.floor(row / numKvHeads), parts = heads?.get(layer);
    const skips = keep[layers.indexOf(layer)], evicts = kvKeep[kvLayers.indexOf(layer)];
    const isWhole = wholeLayers?.includes(layer) || parts?.whole.includes(row % numKvHeads);
    whole[row] = isWhole ? 1 : 0;
    // Where heads have rows of their own, the library tells how many keep a token, not which.
    const units = parts?.apart ? parts.others.length : 1;
    for (let t = 0; t < count; t++) {
      held[row * count + t] = Math.min(skips?.[t] ?? 1, isWhole ? 1 : (evicts?.[t] ?? units) / units);
    }
  }
  return { held, whole };
}

addEventListener("message", async ({ data }: MessageEvent<Request>) => {
  try {
    if (data.kind === "open") await open(data);
    else run(data.asked);
  } catch (error) {
    const { name, message } = error as Error;
    answer({ kind: "refused", message: message.split("\n")[0]!, isOver: name === "KernelError" });
  }
});
