/**
 * Records needles for the page "What does it forget?": which tokens' keys and values are left when the question has been
 * read, and what the model then says, by text, rule, whole parts and ratio. Writes results/recording.json after each text;
 * the same command continues it. The texts are the first of those that measure.ts and the evaluation of 100 texts read.
 *
 * usage: deno run -A experiments/studies/retrieval/record.ts [--texts N] [--threads N]
 *
 * `--texts`: how many texts to add at most (all).
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "@std/cli/parse-args";
import { cpus } from "node:os";
import { openCpu } from "../../../ffi/mod.ts";
import { type EncodedItem, encodeItems, findTask, readItems } from "../../../lib/eval/mod.ts";
import { createPruner, type MethodOptions, resolveOptions } from "../../../lib/methods/mod.ts";
import {
  generateTokens,
  type LoadedModel,
  loadModel,
  retrievalScores,
  Sampler,
} from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readVersion } from "../../../lib/version.ts";
import { exists } from "../../commands/cli/files.ts";

/** What is recorded: every rule with every choice of whole parts at every ratio, on every text. */
export const SETTINGS = {
  model: "smollm2-135m",
  task: "needle",
  items: 8,
  tokens: 512,
  seed: 0,
  warmup: 64,
  recent: 32,
  block: 32,
  rules: ["key", "leave-one-out", "snapkv", "random"],
  wholes: ["none", "heads"],
  ratios: [0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9],
} as const;

/** Tokens that are made beyond those of the answer. */
const MORE = 2;

/** One rule with whole parts at a ratio, on one text. */
export interface RecordedRun {
  readonly rule: string;
  readonly whole: string;
  readonly ratio: number;
  /** What the model says, greedily. */
  readonly said: string;
  /** Whether that begins with the answer. */
  readonly found: boolean;
  /** Fraction of the cache's bytes that is held when the question has been read. */
  readonly held: number;
  /**
   * Base64 of a bit for each token of each layer, layer after layer, the first in the highest place: 1 = its key and value
   * are held in the heads that are not whole.
   */
  readonly kept: string;
}

export interface RecordedText {
  /** Texts of the context's tokens. */
  readonly tokens: readonly string[];
  readonly answer: string;
  readonly full: Pick<RecordedRun, "said" | "found">;
  readonly runs: readonly RecordedRun[];
}

export interface Recording {
  readonly settings: typeof SETTINGS;
  readonly protocol: string;
  readonly layers: number;
  readonly kvHeads: number;
  /** Heads that are whole, `layer.head`. */
  readonly heads: readonly string[];
  readonly conditions: { readonly [name: string]: string };
  readonly texts: readonly RecordedText[];
}

/** Decisions as base64 of bits, the first in the highest place of the first byte. */
export function packBits(rows: readonly Uint8Array[]): string {
  const bits = rows.flatMap((row) => [...row]), bytes = new Uint8Array(Math.ceil(bits.length / 8));
  bits.forEach((bit, i) => bytes[i >> 3]! |= Math.min(bit, 1) << (7 - i % 8));
  return bytes.toBase64();
}

/** A method with the recording's windows. */
const optionsOf = (rule: string, whole: string, ratio: number) => {
  const { warmup, recent, block, seed } = SETTINGS;
  const own = { preset: "retrieval", kvFusion: rule, whole, kvRatio: ratio, warmup, recent, block, seed };
  return own as MethodOptions;
};

const prunerOf = (loaded: LoadedModel, options: MethodOptions) =>
  createPruner("token-filtering", loaded.config, resolveOptions(options), {
    backend: loaded.model.backend,
    retrieval: retrievalScores(loaded),
  });

/** Reads a text's context with a method, or with none, and lets the model answer. */
function runText(
  { model, tokenizer }: LoadedModel,
  encoded: EncodedItem,
  options?: Parameters<typeof prunerOf>,
) {
  const { context, continuation } = encoded.requests[0]!;
  using sequence = model.start(options && prunerOf(...options), { chunk: encoded.item.stream });
  const made: number[] = [], layers: Uint8Array[] = [];
  let held = 1;
  for (
    const step of generateTokens(model, sequence, context, {
      sampler: new Sampler(),
      maxTokens: continuation.length + MORE,
      endIds: tokenizer.endIds,
    })
  ) {
    if (step.kind === "token") made.push(step.id);
    else {
      const { kvBytesHeld, kvBytesAvoided } = sequence.usage(), kept = sequence.kvKeep;
      held = kvBytesHeld / (kvBytesHeld + kvBytesAvoided);
      for (let layer = 0; layer < model.config.numLayers; layer++) {
        layers.push(kept.get(layer) ?? new Uint8Array(context.length).fill(1));
      }
    }
  }
  const found = continuation.every((id, i) => made[i] === id);
  return {
    said: tokenizer.decode(made).trim(),
    found,
    held: Number(held.toFixed(4)),
    kept: packBits(layers),
  };
}

if (import.meta.main) {
  const flags = parseArgs(Deno.args, { string: ["texts", "threads"] });
  const path = new URL("results/recording.json", import.meta.url);
  const backend = await openCpu({ threads: Number(flags.threads ?? 1), build: true });
  const loaded = await loadModel(SETTINGS.model, backend, { onNotice: console.error });
  const { config, tokenizer } = loaded, source = findTask(SETTINGS.task).items!;
  const made = JSON.stringify({ count: SETTINGS.items, tokens: SETTINGS.tokens, seed: SETTINGS.seed });
  const { items } = readItems(SETTINGS.task, source, { name: "made items", text: made }, loaded);
  const encoded = encodeItems(items, loaded);
  const ids = encoded.map(({ requests }) =>
    requests.map(({ context, continuation }) => [[...context], [...continuation]])
  );
  const { keySide } = prunerOf(loaded, optionsOf("key", "heads", 0.5));
  const head: Omit<Recording, "texts"> = {
    settings: SETTINGS,
    protocol: `${
      findTask(SETTINGS.task).protocol
    } Here the model goes on greedily, and has found the number if it says all its digits.`,
    layers: config.numLayers,
    kvHeads: config.numKvHeads,
    heads: [...keySide!.heads!].flatMap(([layer, { whole }]) => whole.map((head) => `${layer}.${head}`)),
    conditions: {
      modelSha256: loaded.sha256,
      promptsSha256: await sha256(JSON.stringify(ids)),
      version: await readVersion(),
      backend: backend.description,
      machine: `${cpus()[0]!.model.trim()}, ${Deno.build.os} ${Deno.build.arch}`,
      deno: Deno.version.deno,
    },
  };
  const earlier: Recording | undefined = exists(path) ? JSON.parse(await Deno.readTextFile(path)) : undefined;
  const texts: RecordedText[] = [...earlier?.texts ?? []];
  if (earlier !== undefined && JSON.stringify({ ...earlier, texts: undefined }) !== JSON.stringify(head)) {
    throw new Error(`Cannot continue ${fileURLToPath(path)}: found other conditions`);
  }
  const last = Math.min(encoded.length, texts.length + Number(flags.texts ?? encoded.length));
  for (const one of encoded.slice(texts.length, last)) {
    const { context, continuation } = one.requests[0]!, { rules, wholes, ratios } = SETTINGS;
    const { said, found } = runText(loaded, one), runs: RecordedRun[] = [];
    for (const rule of rules) {
      for (const whole of wholes) {
        for (const ratio of ratios) {
          runs.push({ rule, whole, ratio, ...runText(loaded, one, [loaded, optionsOf(rule, whole, ratio)]) });
        }
      }
    }
    const answer = tokenizer.decode([...continuation]).trim();
    texts.push({ tokens: tokenizer.texts(context), answer, full: { said, found }, runs });
    // A run is a line.
    const lines = JSON.stringify({ ...head, texts }).replaceAll('{"rule":', '\n{"rule":')
      .replaceAll('{"tokens":[', '\n{"tokens":[');
    await Deno.writeTextFile(path, lines + "\n");
    console.error(`${new Date().toISOString()} text ${texts.length} of ${encoded.length}`);
  }
}
