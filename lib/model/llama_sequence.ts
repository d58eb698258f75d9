/** One sequence on its way through a model: KV caches, the pruner's state, and what has been spent so far. */
import type { CacheDType } from "../dtype.ts";
import type { LayerState } from "../filter/layer.ts";
import type { LayerInput, Pruner, PrunerSequence } from "../methods/pruner.ts";
import { expectTensor, type Tensor } from "../tensor.ts";
import { type CachedRows, LayerCache } from "./kv_cache.ts";
import type { Llama, SequenceOptions } from "./llama.ts";
import { LlamaBlock } from "./llama_block.ts";
import { LayerTally, type SequenceUsage, usageOf } from "./usage.ts";

/** Tokens that go through the layers together; a longer feed is cut, unless the pruner looks ahead. */
const FEED_ROWS = 512;

/** Rows of one layer on their way: T tokens. */
interface LayerRows {
  readonly layer: number;
  /** Residual stream, [T, hiddenSize]. */
  readonly x: Tensor;
  /** Its normed copy, [T, hiddenSize]. */
  readonly h: Tensor;
  /** Rotated keys, [T, numKvHeads * headDim]. */
  readonly keys: Tensor;
  /** Values, like `keys`. */
  readonly values: Tensor;
  /** Rotated queries of all rows, where they are known already, [T, numHeads * headDim]. */
  readonly queries: Tensor | undefined;
  readonly positions: Int32Array<ArrayBuffer>;
}

/** What one layer has seen: its cache, its decisions, and the counts that costs follow from. */
interface LayerRecord {
  cache: LayerCache;
  keep: Uint8Array<ArrayBuffer>[];
  tally: LayerTally;
}

/** A sequence; made by {@linkcode Llama.start}. */
export class LlamaSequence {
  readonly #llama: Llama;
  readonly #pruner: Pruner | undefined;
  readonly #cacheDType: CacheDType;
  readonly #options: SequenceOptions;
  readonly #block: LlamaBlock;
  #decider: PrunerSequence | undefined;
  #layers: LayerRecord[];
  #length = 0;
  /** Layers below this one were run elsewhere: they have no cache here. */
  #lowest = 0;

  /** Use {@linkcode Llama.start}. */
  constructor(llama: Llama, pruner: Pruner | undefined, options: SequenceOptions) {
    const { numLayers, numKvHeads, headDim } = llama.config;
    const unknown = pruner?.layers.find((layer) => !(layer >= 0 && layer < numLayers));
    if (unknown !== undefined) {
      throw new RangeError(`Cannot filter layer ${unknown}: the model's layers are 0 to ${numLayers - 1}`);
    }
    this.#llama = llama;
    this.#pruner = pruner;
    this.#options = options;
    this.#cacheDType = options.cacheDType ?? llama.cacheDType;
    this.#block = new LlamaBlock(llama);
    this.#decider = pruner?.start(options.chunk ?? 0);
    this.#layers = Array.from({ length: numLayers }, () => {
      const cache = new LayerCache(
        llama.backend,
        this.#cacheDType,
        numKvHeads * headDim,
        pruner?.recent ?? 0,
      );
      return { cache, keep: [], tally: new LayerTally(pruner) };
    });
  }

  /** Tokens fed so far. */
  get length(): number {
    return this.#length;
  }

  /** Per filtered layer, one entry for each token so far: 1 = its attention was computed. */
  get keep(): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    const layers = this.#pruner?.layers ?? [];
    return new Map(layers.map((layer) => {
      const all = new Uint8Array(this.#length);
      this.#layers[layer]!.keep.reduce((at, part) => (all.set(part, at), at + part.length), 0);
      return [layer, all];
    }));
  }

  /**
   * Feeds the next tokens.
   *
   * @returns hidden states after the final norm, [T, hiddenSize] f32, for {@linkcode Llama.logits}
   * @throws {RangeError} On an unknown id, or if the pruner looks ahead and this is not the first feed.
   */
  feed(ids: Int32Array<ArrayBuffer>): Tensor {
    if (this.#lowest > 0) {
      throw new RangeError("Cannot feed tokens after a residual stream: the layers below it have no cache");
    }
    return this.#throughLayers(this.#llama.embed(ids), 0);
  }

  /**
   * Feeds a whole sequence as the residual stream that enters `layer`, [T, hiddenSize] f32, from
   * {@linkcode Llama.residualAt}. The stream is left as it is.
   *
   * @throws {RangeError} If tokens were fed before, or a layer below `layer` is filtered.
   */
  feedResidual(residual: Tensor, layer: number): Tensor {
    expectTensor("residual", residual, "f32", [-1, this.#llama.config.hiddenSize]);
    if (this.#length > 0) throw new RangeError("Cannot feed a residual stream: the sequence has begun");
    if (this.#pruner?.layers.some((filtered) => filtered < layer)) {
      throw new RangeError(`Cannot start at layer ${layer}: a layer below it is filtered`);
    }
    this.#lowest = layer;
    const copy = this.#llama.backend.resizeRows(residual, residual.shape[0]!);
    return this.#throughLayers(copy, layer);
  }

  /** The residual stream that enters `layer`, of the first tokens, [T, hiddenSize]. The sequence ends with it. */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor {
    this.#lowest = this.#llama.config.numLayers;
    return this.#run(this.#llama.embed(ids), 0, layer);
  }

  /** The layers' caches, and the filter's states where the method has them; to go on in a batch. Shared, not copied. */
  get carried(): {
    readonly caches: readonly LayerCache[];
    readonly states: readonly LayerState[] | undefined;
  } {
    return { caches: this.#layers.map(({ cache }) => cache), states: this.#decider?.states };
  }

  /** What was spent and saved so far. */
  usage(): SequenceUsage {
    const { config } = this.#llama;
    const rowBytes = LayerCache.rowBytes(this.#cacheDType, config.numKvHeads * config.headDim);
    const layers = this.#layers.slice(this.#lowest);
    const below = this.#lowest * this.#length * rowBytes;
    const allocatedBytes = layers.reduce((sum, { cache }) => sum + cache.allocatedBytes, below);
    return usageOf(config, layers.map(({ tally }) => tally), { rowBytes, allocatedBytes }, this.#length);
  }

  /** An independent copy, to branch a sequence. */
  fork(): LlamaSequence {
    const copy = new LlamaSequence(this.#llama, this.#pruner, this.#options);
    copy.#decider = this.#decider?.fork();
    copy.#layers = this.#layers.map((layer) => ({
      ...layer,
      cache: layer.cache.fork(),
      keep: [...layer.keep],
      tally: layer.tally.clone(),
    }));
    copy.#length = this.#length;
    copy.#lowest = this.#lowest;
    return copy;
  }

  /**
   * Gives the memory of its caches back at once; not to be fed or forked afterwards. Where it is not called, memory is
   * freed late, which on a device may be too late.
   */
  free(): void {
    this.#layers.forEach(({ cache }) => cache.free());
    this.#block.free();
  }

  #filters(layer: number): boolean {
    return this.#pruner?.layers.includes(layer) ?? false;
  }

  /** Hidden states of rows of the residual stream, which it takes over, after the layers from `from` on. */
  #throughLayers(rows: Tensor, from: number): Tensor {
    const { backend, config, weights } = this.#llama;
    const x = this.#run(rows, from, config.numLayers);
    const out = backend.alloc("f32", x.shape);
    backend.rmsNorm(x, weights.outputNorm, config.rmsNormEps, out);
    backend.free(x);
    if (x !== rows) backend.free(rows);
    return out;
  }

  /** Runs rows of the residual stream, which it may overwrite, through layers [from, to). */
  #run(x: Tensor, from: number, to: number): Tensor {
    const total = x.shape[0]!;
    const ahead = this.#pruner !== undefined && this.#pruner.looksAhead !== "nothing";
    if (ahead && this.#length > 0) {
      throw new RangeError(
        `Cannot go on with a pruner that looks ahead ("${
          this.#pruner!.name
        }"): expected one prefill of all tokens`,
      );
    }
    if (ahead || total <= FEED_ROWS) {
      this.#runPiece(x, from, to);
      return x;
    }
    const out = this.#llama.backend.alloc("f32", x.shape);
    for (let at = 0; at < total; at += FEED_ROWS) {
      const rows = Int32Array.from({ length: Math.min(FEED_ROWS, total - at) }, (_, i) => at + i);
      const piece = this.#block.rows("piece", x, rows);
      this.#runPiece(piece, from, to);
      this.#llama.backend.storeRows(piece, out, at);
    }
    return out;
  }

  #runPiece(x: Tensor, from: number, to: number): void {
    const positions = Int32Array.from({ length: x.shape[0]! }, (_, i) => this.#length + i);
    for (let layer = from; layer < to; layer++) {
      this.#attention(layer, x, positions);
      this.#block.mlp(layer, x);
    }
    this.#length += positions.length;
  }

  /** The attention block of one layer: project keys and values, decide, and attend for the kept rows. */
  #attention(layer: number, x: Tensor, positions: Int32Array<ArrayBuffer>): void {
    const block = this.#block;
    const count = positions.length;
    const h = block.attentionInput(layer, x);
    const { keys, values } = block.keysAndValues(layer, h);
    if (!this.#filters(layer)) {
      block.rotate(keys, positions);
      const rows = { layer, x, h, keys, values, queries: undefined, positions };
      this.#attend(rows, 0, new Uint8Array(count).fill(1));
      return;
    }
    const pruner = this.#pruner!, decider = this.#decider!;
    const seen = pruner.keyState === "pre-rope" ? this.#llama.backend.resizeRows(keys, count) : keys;
    block.rotate(keys, positions);
    const ahead = pruner.looksAhead === "outputs";
    const queries = pruner.wantsQueries || ahead ? block.queries(layer, h, positions) : undefined;
    const rows: LayerRows = { layer, x, h, keys, values, queries, positions };
    const input: LayerInput = {
      layer,
      count,
      keys: block.heads(seen),
      values: block.heads(values),
      residual: x,
      normed: h,
      ...(pruner.wantsQueries ? { queries: queries! } : {}),
      ...(ahead ? { trueRedundancy: this.#trueRedundancy(rows) } : {}),
    };
    for (let start = 0; start < count;) {
      const { taken, keep } = decider.decide(input, start);
      this.#layers[layer]!.keep.push(keep.slice(0, taken));
      this.#attend(rows, start, keep.subarray(0, taken));
      start += taken;
    }
    if (seen !== keys) this.#llama.backend.free(seen);
  }

  /** Adds the attention of the kept rows of [start, start + keep.length) to the residual stream. */
  #attend(rows: LayerRows, start: number, keep: Uint8Array<ArrayBuffer>): void {
    const { layer, x, h, keys, values } = rows;
    const block = this.#block, backend = this.#llama.backend;
    const record = this.#layers[layer]!;
    const at = (index: Int32Array<ArrayBuffer>) => index.map((row) => rows.positions[row]!);
    const kept = indicesOf(keep, 1, start);
    const skipped = indicesOf(keep, 0, start);
    const every = Int32Array.from({ length: keep.length }, (_, i) => start + i);
    const [cached, near] = this.#pruner?.cacheSkipped ? [every, new Int32Array(0)] : [kept, skipped];
    if (cached.length > 0) {
      record.cache.append(
        block.rows("cachedKeys", keys, cached),
        block.rows("cachedValues", values, cached),
        at(cached),
      );
    }
    const recent = record.cache.pass(
      block.rows("nearKeys", keys, near),
      block.rows("nearValues", values, near),
      at(near),
      rows.positions[start]! + keep.length,
    );
    record.tally.take(keep);
    if (kept.length === 0) {
      record.cache.release(recent);
      return;
    }

    const positions = at(kept);
    const window = this.#pruner?.recent ?? 0;
    const queries = rows.queries === undefined
      ? block.queries(layer, block.rows("keptNormed", h, kept), positions)
      : block.rows("keptQueries", rows.queries, kept);
    const output = block.attend(layer, queries, positions, record.cache.kept, recent, window);
    if (this.#filters(layer) && this.#pruner!.wantsOutputs) {
      const residualNorms = backend.rowNorms(block.rows("keptResidual", x, kept));
      this.#decider!.observe!(layer, backend.rowNorms(output), residualNorms);
    }
    backend.scatterAddRows(x, block.i32(kept), output);
    record.cache.release(recent);
  }

  /** norm(attention output) / norm(residual) of every row, as if all were kept; for pruners that look ahead. */
  #trueRedundancy({ layer, x, keys, values, queries, positions }: LayerRows): Float64Array<ArrayBuffer> {
    const backend = this.#llama.backend;
    const all: CachedRows = { keys, values, positions, count: positions.length };
    const output = this.#block.attend(layer, queries!, positions, all, { ...all, count: 0 }, 0);
    const residual = backend.rowNorms(x);
    return backend.rowNorms(output).map((norm, row) => norm / residual[row]!);
  }
}

/** Indices, from `start` on, at which `keep` has a value. */
function indicesOf(keep: Uint8Array, value: number, start: number): Int32Array<ArrayBuffer> {
  const found: number[] = [];
  keep.forEach((kept, i) => kept === value && found.push(start + i));
  return Int32Array.from(found);
}
