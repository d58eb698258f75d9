/** One sequence in a model: KV caches, the pruner's state, and what has been spent so far. */
import type { AttentionArgs } from "../backend.ts";
import type { CacheDType } from "../dtype.ts";
import type { LayerState } from "../filter/layer.ts";
import { filteredLayers, type LayerInput, type Pruner, type PrunerSequence } from "../methods/pruner.ts";
import { expectInstance, expectTypeOf } from "../errors.ts";
import { expectTensor, type Tensor } from "../tensor.ts";
import { expectPositions, layerConfig } from "./config.ts";
import { type CachedRows, LayerCache } from "./kv_cache.ts";
import { createForwardPass } from "./architectures/mod.ts";
import { type EndingRow, endsOf, KeyJudge } from "./key_judge.ts";
import { meanProbabilities } from "./probabilities.ts";
import { asMatrix, type ForwardPass, type KeptRows, type LayerRows } from "./forward_pass.ts";
import type { Model, SequenceOptions } from "./model.ts";
import { indicesOf, range, type Rows } from "./row_indices.ts";
import { LayerTally, type SequenceUsage, usageOf } from "./usage.ts";

/** Tokens that go through the layers together; a longer feed is cut, unless the pruner looks ahead. */
const FEED_ROWS = 512;

/** What one layer has seen: its cache, its decisions, and the counts that costs follow from. */
interface LayerRecord {
  cache: LayerCache;
  keep: Uint8Array<ArrayBuffer>[];
  tally: LayerTally;
}

/** A sequence; made by {@linkcode Model.start}. */
export class ModelSequence {
  readonly #model: Model;
  readonly #pruner: Pruner | undefined;
  readonly #cacheDType: CacheDType;
  readonly #options: SequenceOptions;
  readonly #pass: ForwardPass;
  #decider: PrunerSequence | undefined;
  #judge: KeyJudge | undefined;
  #layers: LayerRecord[];
  #length = 0;
  /** Layers below this one were run elsewhere: they have no cache here. */
  #lowest = 0;

  /** Use {@linkcode Model.start}. */
  constructor(model: Model, pruner: Pruner | undefined, options: SequenceOptions) {
    const { numLayers, numKvHeads, headDim } = model.config;
    if (pruner !== undefined) expectTypeOf("start of a pruner", pruner?.start, "function");
    const unknown = pruner && filteredLayers(pruner).find((layer) => !(layer >= 0 && layer < numLayers));
    if (unknown !== undefined) {
      throw new RangeError(`Cannot filter layer ${unknown}: the model's layers are 0 to ${numLayers - 1}`);
    }
    this.#model = model;
    this.#pruner = pruner;
    this.#options = options;
    this.#cacheDType = options.cacheDType ?? model.cacheDType;
    this.#pass = createForwardPass(model);
    this.#decider = pruner?.start(options.chunk ?? 0);
    const side = pruner?.keySide;
    this.#judge = side && new KeyJudge(side, side.start(options.chunk ?? 0));
    this.#layers = Array.from({ length: numLayers }, (_, layer) => {
      const cache = new LayerCache(
        model.backend,
        this.#cacheDType,
        numKvHeads * headDim,
        pruner?.recent ?? 0,
      );
      return { cache, keep: [], tally: new LayerTally(pruner, layerConfig(model.config, layer).window) };
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

  /** Per layer of the method's key side, one entry for each token so far: 0 = its key and value have gone. */
  get kvKeep(): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    return this.#judge?.keep(this.#length) ?? new Map();
  }

  /**
   * Feeds the next tokens.
   *
   * @returns hidden states after the final norm, [T, hiddenSize] f32, for {@linkcode Model.logits}
   * @throws {RangeError} On an unknown id, or if the pruner looks ahead and this is not the first feed.
   */
  feed(ids: Int32Array<ArrayBuffer>): Tensor {
    expectInstance("ids", ids, Int32Array);
    if (this.#lowest > 0) {
      throw new RangeError("Cannot feed tokens after a residual stream: the layers below it have no cache");
    }
    return this.#throughLayers(this.#model.embed(ids), 0);
  }

  /**
   * Feeds a whole sequence as the residual stream that enters `layer`, [T, hiddenSize] f32, from
   * {@linkcode Model.residualAt}. The stream is left as it is.
   *
   * @throws {RangeError} If tokens were fed before, or a layer below `layer` is filtered.
   */
  feedResidual(residual: Tensor, layer: number): Tensor {
    expectTensor("residual", residual, "f32", [-1, this.#model.config.hiddenSize]);
    if (this.#length > 0) throw new RangeError("Cannot feed a residual stream: the sequence has begun");
    if (this.#pruner !== undefined && filteredLayers(this.#pruner).some((filtered) => filtered < layer)) {
      throw new RangeError(`Cannot start at layer ${layer}: a layer below it is filtered`);
    }
    this.#lowest = layer;
    const copy = this.#model.backend.resizeRows(residual, residual.shape[0]!);
    return this.#throughLayers(copy, layer);
  }

  /** The residual stream that enters `layer`, of the first tokens, [T, hiddenSize]. The sequence ends with it. */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor {
    this.#lowest = this.#model.config.numLayers;
    return this.#run(this.#model.embed(ids), 0, layer);
  }

  /**
   * The layers' caches, and the filter's states where the method has them; to go on in a batch. Shared, not copied.
   * @internal
   */
  exportState(): {
    readonly caches: readonly LayerCache[];
    readonly states: readonly LayerState[] | undefined;
  } {
    return { caches: this.#layers.map(({ cache }) => cache), states: this.#decider?.states };
  }

  /** What was spent and saved so far. */
  usage(): SequenceUsage {
    const { config } = this.#model;
    const rowBytes = LayerCache.rowBytes(this.#cacheDType, config.numKvHeads * config.headDim);
    const layers = this.#layers.slice(this.#lowest);
    const below = this.#lowest * this.#length * rowBytes;
    const allocatedBytes = layers.reduce((sum, { cache }) => sum + cache.allocatedBytes, below);
    return usageOf(config, layers.map(({ tally }) => tally), { rowBytes, allocatedBytes }, this.#length);
  }

  /** An independent copy, to branch a sequence. */
  fork(): ModelSequence {
    const copy = new ModelSequence(this.#model, this.#pruner, this.#options);
    copy.#decider = this.#decider?.fork();
    copy.#judge = this.#judge?.fork();
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
    this.#pass.free();
  }

  #prunerOf(layer: number): Pruner | undefined {
    return this.#pruner?.layers.includes(layer) ? this.#pruner : undefined;
  }

  #judgeOf(layer: number): KeyJudge | undefined {
    return this.#pruner?.keySide?.layers.includes(layer) ? this.#judge : undefined;
  }

  /** Hidden states of rows of the residual stream, which it takes over, after the layers from `from` on. */
  #throughLayers(rows: Tensor, from: number): Tensor {
    const { backend, config } = this.#model;
    const x = this.#run(rows, from, config.numLayers);
    const out = backend.alloc("f32", x.shape);
    this.#pass.finish(x, out);
    backend.free(x);
    if (x !== rows) backend.free(rows);
    return out;
  }

  /** Runs rows of the residual stream, which it may overwrite, through layers [from, to). */
  #run(x: Tensor, from: number, to: number): Tensor {
    const total = x.shape[0]!;
    expectPositions(this.#model.config, this.#length + total);
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
    const out = this.#model.backend.alloc("f32", x.shape);
    for (let at = 0; at < total; at += FEED_ROWS) {
      const piece = this.#pass.gather("piece", x, range(at, Math.min(FEED_ROWS, total - at)));
      this.#runPiece(piece, from, to);
      this.#model.backend.storeRows(piece, out, at);
    }
    return out;
  }

  #runPiece(x: Tensor, from: number, to: number): void {
    this.#pass.run(x, from, to, {
      positions: this.#pass.i32(this.#positionsOf(range(0, x.shape[0]!))),
      prunerOf: (layer) =>
        this.#prunerOf(layer) ?? (this.#judgeOf(layer) && { ...this.#pruner!, ...SEES_KEYS }),
      decide: (rows) => this.#decide(rows),
    });
    this.#length += x.shape[0]!;
  }

  /** Positions of rows of the piece that is being fed. */
  #positionsOf(rows: Rows): Int32Array<ArrayBuffer> {
    return rows.map((row) => this.#length + row);
  }

  /** Decides a layer's rows, in the method's pieces; keys and values are judged where blocks begin. */
  *#decide(rows: LayerRows): Generator<KeptRows> {
    const { layer, filterKeys, values, residual } = rows, count = residual.shape[0]!;
    const judge = this.#judgeOf(layer), inBlocks = this.#pruner?.keySide?.wantsAttention === true;
    judge?.take({ layer, count, keys: filterKeys, values });
    // Where keys and values alone decide, what ends in these rows is known before their attention: one call does.
    const ending = judge === undefined || inBlocks ? [] : this.#judgeRows(judge, layer, this.#length + count);
    for (const { start, keep } of this.#decideQueries(rows)) {
      const first = this.#length + start, end = first + keep.length;
      const cuts = judge === undefined || !inBlocks ? [] : judge.starts(first, end);
      for (const [i, from] of [first, ...cuts].entries()) {
        if (judge !== undefined && inBlocks) this.#judgeRows(judge, layer, from + 1, from);
        const piece = keep.subarray(from - first, (cuts[i] ?? end) - first);
        yield* this.#append(rows, from - this.#length, piece, ending);
      }
    }
    this.#layers[layer]!.cache.drop(ending.map(({ position }) => position));
  }

  /**
   * Judges a layer's keys and values at all block starts below `end`, and drops those that no query from `next` on sees.
   *
   * @returns the others that are to go
   */
  #judgeRows(judge: KeyJudge, layer: number, end: number, next = this.#length): EndingRow[] {
    const { cache, tally } = this.#layers[layer]!, gone = judge.judge(layer, end);
    tally.drop(gone.map((row) => row.end));
    cache.drop(gone.filter((row) => row.end <= next).map(({ position }) => position));
    return gone.filter((row) => row.end > next);
  }

  /** Whose attention is computed: the decisions on a layer's rows, piece by piece. */
  *#decideQueries(rows: LayerRows): Generator<{ start: number; keep: Uint8Array<ArrayBuffer> }> {
    const { layer, filterKeys, values, residual, normed, queries } = rows, count = residual.shape[0]!;
    const pruner = this.#prunerOf(layer);
    if (pruner === undefined) {
      yield { start: 0, keep: new Uint8Array(count).fill(1) };
      return;
    }
    const input: LayerInput = {
      layer,
      count,
      keys: filterKeys,
      values,
      residual,
      normed,
      ...(pruner.wantsQueries ? { queries: queries! } : {}),
      ...(pruner.looksAhead === "outputs" ? { trueRedundancy: this.#trueRedundancy(rows) } : {}),
    };
    for (let start = 0; start < count;) {
      const { taken, keep } = this.#decider!.decide(input, start);
      this.#layers[layer]!.keep.push(keep.slice(0, taken));
      yield { start, keep: keep.subarray(0, taken) };
      start += taken;
    }
  }

  /** Caches rows [start, start + keep.length), and gives those that are kept, if any. */
  *#append(
    rows: LayerRows,
    start: number,
    keep: Uint8Array<ArrayBuffer>,
    ending: readonly EndingRow[],
  ): Generator<KeptRows> {
    const { layer, keys, values, residual } = rows, pass = this.#pass, { backend } = this.#model;
    const { cache, tally } = this.#layers[layer]!;
    const kept = indicesOf(keep, 1, start), all = kept.length === residual.shape[0];
    const [cached, skipped] = this.#pruner?.cacheSkipped
      ? [range(start, keep.length), range(0, 0)]
      : [kept, indicesOf(keep, 0, start)];
    if (cached.length > 0) {
      cache.append(
        pass.gather("cachedKeys", keys, cached),
        pass.gather("cachedValues", values, cached),
        this.#positionsOf(cached),
      );
    }
    const recent = cache.appendSkipped(
      pass.gather("skippedKeys", keys, skipped),
      pass.gather("skippedValues", values, skipped),
      this.#positionsOf(skipped),
      this.#length + start + keep.length,
    );
    tally.take(keep);
    if (kept.length > 0) {
      const positions = all ? rows.positions : pass.i32(this.#positionsOf(kept));
      yield {
        positions,
        select: (name, x) => pass.gather(name, x, kept),
        attend: (...args) => {
          const asked = this.#attentionArgs(layer, positions, cache.kept, recent, ending, ...args);
          backend.attention(asked);
          this.#observe(layer, kept, asked);
        },
        add: (output) => {
          if (this.#prunerOf(layer)?.wantsOutputs) {
            const residualNorms = backend.rowNorms(pass.gather("keptResidual", residual, kept));
            this.#decider!.observe!(layer, backend.rowNorms(output), residualNorms);
          }
          if (all) backend.add(residual, output);
          else backend.scatterAddRows(residual, pass.i32(kept), output);
        },
      };
    }
    cache.release(recent);
  }

  /** Shows the key side what computed queries gave to the tokens that are not yet judged, where it asked for it. */
  #observe(layer: number, kept: Rows, asked: AttentionArgs): void {
    const judge = this.#judgeOf(layer);
    if (!this.#pruner?.keySide?.wantsAttention || judge === undefined) return;
    // They are the last rows of the cache: one a token, since none of them went.
    const last = this.#layers[layer]!.cache.kept.positions[asked.numKeys - 1]!;
    const from = asked.numKeys - (last + 1 - judge.judged(layer));
    const probabilities = meanProbabilities(this.#model.backend, asked, from);
    judge.observe(layer, this.#positionsOf(kept), probabilities);
  }

  #attentionArgs(
    layer: number,
    queryPositions: Tensor,
    kept: CachedRows,
    recent: CachedRows,
    ending: readonly EndingRow[],
    ...[queries, out, scale]: Parameters<KeptRows["attend"]>
  ): AttentionArgs {
    const pass = this.#pass, { window } = layerConfig(this.#model.config, layer);
    const reach = window === undefined ? Infinity : window - 1;
    return {
      ...(window !== undefined && { windows: pass.i32(new Int32Array(queries.shape[0]!).fill(reach)) }),
      queries,
      queryPositions,
      keys: pass.byHead(kept.keys),
      values: pass.byHead(kept.values),
      keyPositions: pass.i32(kept.positions),
      numKeys: kept.count,
      ...(ending.length > 0 && { keyEnds: pass.i32(endsOf(kept.positions, ending)) }),
      recentKeys: pass.byHead(recent.keys),
      recentValues: pass.byHead(recent.values),
      recentPositions: pass.i32(recent.positions),
      numRecent: recent.count,
      recent: Math.min(this.#pruner?.recent ?? 0, reach),
      scale,
      out,
    };
  }

  /** norm(attention output) / norm(residual) of every row, as if all were kept; for pruners that look ahead. */
  #trueRedundancy(
    { layer, keys, values, queries, positions, residual }: LayerRows,
  ): Float64Array<ArrayBuffer> {
    const { backend } = this.#model, pass = this.#pass, every = range(0, residual.shape[0]!);
    const all: CachedRows = {
      keys: asMatrix(keys),
      values: asMatrix(values),
      positions: this.#positionsOf(every),
      count: every.length,
    };
    const output = pass.attend(layer, queries!, {
      attend: (...args) =>
        backend.attention(this.#attentionArgs(layer, positions, all, { ...all, count: 0 }, [], ...args)),
    });
    const norms = backend.rowNorms(residual);
    return backend.rowNorms(output).map((norm, row) => norm / norms[row]!);
  }
}

/** What a layer shows where keys and values alone are filtered. */
const SEES_KEYS = { wantsQueries: false, looksAhead: "nothing" } as const;
