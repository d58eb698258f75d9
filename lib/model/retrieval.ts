/** Which layers retrieve: how much a layer's output needs keys that are neither among the first ones nor recent. */
import { expectInteger } from "../errors.ts";
import { firstOutcome } from "../filter/outcome.ts";
import { mean } from "../math/mean.ts";
import { drawIds, headScores, repeatIds } from "./head_probe.ts";
import { definePruner, type Outcomes, type Pruner, type PrunerContext } from "../methods/protocol/pruner.ts";
import { f32Data, firstRows, hostTensor, type Tensor } from "../tensor.ts";
import type { ModelConfig } from "./config/config.ts";
import type { LoadedModel } from "./open.ts";
import type { Model } from "./model.ts";
import type { See } from "./run/forward_pass.ts";
import { FEED_ROWS } from "./run/sequence.ts";

/**
 * The probe: `tokens` random ids and their repetition. A layer's output is compared with that over `sinks` first and `recent`
 * last keys.
 */
const PROBE = { version: 2, tokens: 128, sinks: 32, recent: 64 } as const;
/** A model that copies has a loss lower by at least this, in nats per token, when it reads the ids again. */
const LEAST_GAIN = 1;

/** Result of a probe. */
export interface RetrievalLayers {
  /**
   * Score of each layer, [numLayers]: mean over the tokens of the second half of |o - o'|^2 / |x|^2. Here o is the
   * attention block's output, o' the same over only the first and the recent keys, and x the residual stream before the
   * block. It is 0 for a layer with a sliding window, which does not reach far.
   */
  readonly scores: readonly number[];
  /** The same of each KV head, [numLayers][numKvHeads]: in o' only its queries see the first and the recent keys alone. */
  readonly heads: readonly (readonly number[])[];
  /** Mean loss of the ids in nats per token, in the first and in the second half. */
  readonly losses: readonly [first: number, again: number];
  /** Whether the model copies: where it does not, the scores are a guess. */
  readonly copies: boolean;
  /** Options of the probe. */
  readonly probe: {
    readonly version: number;
    readonly tokens: number;
    readonly sinks: number;
    readonly recent: number;
    readonly seed: number;
  };
}

/** Loss of ids[i + 1] in nats, [T - 1], of one prefill. */
function lossesOf(model: Model, ids: Int32Array<ArrayBuffer>, pruner: Pruner, see: See): Float64Array {
  const { backend } = model, sequence = model.start(pruner, { see }), hidden = sequence.feed(ids);
  const targets = backend.upload(hostTensor("i32", [ids.length - 1], ids.slice(1)));
  const logits = model.logits(firstRows(hidden, ids.length - 1)), nll = backend.nll(logits, targets);
  for (const tensor of [hidden, targets, logits]) backend.free(tensor);
  sequence.free();
  return nll;
}

/**
 * Norms of what the attention block's output changes by where one KV head's queries have other outputs, [numKvHeads * T]: those
 * of one head after the other.
 *
 * @param outputs Attention outputs of the heads, T rows of numHeads * headDim.
 * @param differences Between those outputs and the others.
 */
function headNorms(
  { backend, config, weights }: Model,
  layer: number,
  outputs: Float32Array,
  differences: Float32Array,
): Float64Array<ArrayBuffer> {
  const { numKvHeads, hiddenSize, rmsNormEps } = config,
    { o: projection, attnPostNorm: postNorm } = weights.layers[layer]!;
  const columns = projection!.shape[1]!, width = columns / numKvHeads, rows = differences.length / columns;
  const apart = new Float32Array(numKvHeads * differences.length);
  for (let head = 0; head < numKvHeads; head++) {
    for (let row = 0; row < rows; row++) {
      const from = row * columns + head * width;
      apart.set(differences.subarray(from, from + width), head * differences.length + from);
    }
  }
  const made: Tensor[] = [], keep = <T extends Tensor>(x: T) => (made.push(x), x);
  const project = (values: Float32Array<ArrayBuffer>) => {
    const x = keep(backend.upload(hostTensor("f32", [values.length / columns, columns], values)));
    const out = keep(backend.alloc("f32", [x.shape[0]!, hiddenSize]));
    backend.linear(x, projection!, out);
    return out;
  };
  let changes = project(apart);
  // A norm behind the projection scales a head's part by all heads' output.
  if (postNorm !== undefined) {
    const normed = (values: Float32Array<ArrayBuffer>) => {
      const x = project(values);
      backend.rmsNorm(x, postNorm, rmsNormEps, x);
      return f32Data(backend.read(x));
    };
    const all = apart.map((_, i) => outputs[i % outputs.length]!), own = normed(all);
    const others = normed(apart.map((x, i) => all[i]! - x)), apartness = own.map((x, i) => x - others[i]!);
    changes = keep(backend.upload(hostTensor("f32", changes.shape, Float32Array.from(apartness))));
  }
  const norms = backend.rowNorms(changes);
  for (const tensor of made) backend.free(tensor);
  return norms;
}

/**
 * Finds the layers and KV heads that retrieve, by one dense forward pass over random tokens and their repetition; no text
 * is needed.
 *
 * The scores go into a model's shape as `retrieval`; the option `whole: "auto"` then keeps every key and value of the
 * layers with the highest ones. Compare retrieval heads (arXiv 2404.15574), RazorAttention (2407.15891) and
 * DuoAttention (2410.10819), which look at attention weights or train gates.
 *
 * @param loaded A model with its tokenizer.
 * @param options.seed Seed of the ids, an integer from 0 on; default 0.
 * @param options.ids Ids that are repeated, 104 to 255 of them: with fewer, the first tokens of the second half have
 * no keys between the first and the recent ones. Default: 128 random ones.
 * @throws {RangeError} If the seed is none, the ids are too few or too many, or every layer has a sliding window.
 *
 * @example
 * ```ts
 * import { createPruner, findRetrievalLayers, loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const loaded = await loadModel("tiny", new ReferenceBackend());
 * const shape = { ...loaded.config, retrieval: findRetrievalLayers(loaded).scores };
 * const pruner = createPruner("token-filtering", shape, { side: "key", fusion: "key", whole: "auto" });
 * console.assert(pruner.keySide!.layers.length < shape.numLayers);
 * ```
 */
export function findRetrievalLayers(
  { model, tokenizer }: Pick<LoadedModel, "model" | "tokenizer">,
  { seed = 0, ids: given }: { readonly seed?: number; readonly ids?: ArrayLike<number> } = {},
): RetrievalLayers {
  expectInteger("seed", seed, 0);
  const tokens = given?.length ?? PROBE.tokens, least = firstOutcome({ ...PROBE, substitute: "local" });
  if (tokens < least || 2 * tokens >= FEED_ROWS) {
    throw new RangeError(`Cannot probe with ${tokens} ids: expected ${least} to ${FEED_ROWS / 2 - 1}`);
  }
  const { numLayers, layers: own } = model.config;
  const layers = Array.from({ length: numLayers }, (_, layer) => layer)
    .filter((layer) => own?.[layer]?.window === undefined);
  if (layers.length === 0) {
    throw new RangeError("Cannot find retrieval layers: every layer has a sliding window (use --whole none)");
  }
  const ids = given === undefined
    ? drawIds(tokenizer, { ...PROBE, copies: 2, seed })
    : repeatIds(tokenizer, given, 2);
  const { losses, ...scores } = probe(model, layers, ids, tokens);
  return {
    ...scores,
    losses,
    copies: losses[1] <= losses[0] - LEAST_GAIN,
    probe: { ...PROBE, tokens, seed },
  };
}

/** Scores of layers and heads, and losses. @param ids Some, the last ones `count` ids twice */
function probe(
  model: Model,
  layers: readonly number[],
  ids: Int32Array<ArrayBuffer>,
  count: number,
): { scores: number[]; heads: number[][]; losses: [number, number] } {
  const { numLayers, numKvHeads } = model.config, again = ids.length - count;
  const scores = Array<number>(numLayers).fill(0);
  const heads = Array.from({ length: numLayers }, () => Array<number>(numKvHeads).fill(0));
  let norms = new Float64Array();
  // Input of the output projection: one row per token, and a second row of o' after it where the two are compared.
  const see = (layer: number, name: string, x: Tensor) => {
    if (name !== "o" || !layers.includes(layer)) return;
    const all = f32Data(model.backend.read(x)), columns = x.shape[1]!, single = 2 * ids.length - x.shape[0]!;
    const outputs = new Float32Array(count * columns), differences = outputs.slice();
    for (let t = 0; t < count; t++) {
      const from = (2 * (again + t) - single) * columns;
      outputs.set(all.subarray(from, from + columns), t * columns);
      for (let c = 0; c < columns; c++) {
        differences[t * columns + c] = all[from + c]! - all[from + columns + c]!;
      }
    }
    norms = headNorms(model, layer, outputs, differences);
  };
  const pruner = definePruner({
    name: "retrieval probe",
    layers,
    needs: ["outputs"],
    spans: { warmup: 0, block: 32, recent: PROBE.recent },
    skipped: { cached: true, substitute: { kind: "local", sinks: PROBE.sinks, block: 32 } },
    start: () => {
      const sequence = {
        decide: ({ count }: { readonly count: number }) => ({ keep: new Uint8Array(count).fill(1) }),
        // Each outcome is the norm of o - o', because outputs are compared with the local substitute.
        observe(layer: number, { outputNorms, residualNorms }: Outcomes) {
          for (let t = again; t < ids.length; t++) {
            scores[layer]! += (outputNorms[t]! / residualNorms[t]!) ** 2 / count;
            for (let head = 0; head < numKvHeads; head++) {
              const norm = norms[head * count + t - again]!;
              heads[layer]![head]! += (norm / residualNorms[t]!) ** 2 / count;
            }
          }
        },
        fork: () => sequence,
      };
      return sequence;
    },
  });
  const nll = lossesOf(model, ids, pruner, see);
  const lossFrom = (start: number) => mean(nll.subarray(start, start + count - 1));
  return { scores, heads, losses: [lossFrom(again - count), lossFrom(again)] };
}

/** Results of probes with the first seed, by model. */
const found = new WeakMap<Model, RetrievalLayers>();

/**
 * The layers of a model that retrieve, probed once.
 *
 * @param kept Result of an earlier probe of the same model; ignored if it is of another probe.
 */
export function retrievalOf(
  loaded: Pick<LoadedModel, "model" | "tokenizer">,
  kept?: unknown,
): RetrievalLayers {
  const isKept = isRetrieval(kept, loaded.model.config) ? kept : undefined;
  const known = found.get(loaded.model) ?? isKept ?? findRetrievalLayers(loaded);
  found.set(loaded.model, known);
  return known;
}

/** The same as a method's context and the shape of a model have it: scores of layers, or of KV heads one after the other. */
export const retrievalScores =
  (loaded: Pick<LoadedModel, "model" | "tokenizer">): NonNullable<PrunerContext["retrieval"]> => (whole) => {
    if (typeof whole === "object") return headScores(loaded, whole);
    const { scores, heads } = retrievalOf(loaded);
    return whole === "heads" ? heads.flat() : scores;
  };

/** Whether a value can be the result of a probe with the first seed, for these numbers of layers and KV heads. */
function isRetrieval(
  value: unknown,
  { numLayers, numKvHeads }: Pick<ModelConfig, "numLayers" | "numKvHeads">,
): value is RetrievalLayers {
  const { scores, heads, losses, copies, probe } = (value ?? {}) as Partial<RetrievalLayers>;
  const areNumbers = (list: unknown, count: number) =>
    Array.isArray(list) && list.length === count && list.every((item) => Number.isFinite(item) && item >= 0);
  return areNumbers(scores, numLayers) && Array.isArray(heads) && heads.length === numLayers &&
    heads.every((own) => areNumbers(own, numKvHeads)) && areNumbers(losses, 2) &&
    typeof copies === "boolean" &&
    JSON.stringify(probe) === JSON.stringify({ ...PROBE, seed: 0 });
}
