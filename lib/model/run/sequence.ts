/** One sequence in a model: KV caches, the pruner's state, and the cost so far. */
import { CACHE_DTYPES, type CacheDType } from "../../dtype.ts";
import type { LayerState } from "../../filter/layer.ts";
import {
  checkWindows,
  filteredLayers,
  preparationOf,
  type Pruner,
  type Rehearsal,
  type SideSequence,
  takesWhole,
} from "../../methods/protocol/pruner.ts";
import { expectInteger, expectName, expectOptions, expectTypeOf } from "../../errors.ts";
import { expectTensor, type Tensor } from "../../tensor.ts";
import { expectPositions } from "../config/config.ts";
import { LayerCache } from "./cache/kv_cache.ts";
import { createForwardPass } from "../architectures/mod.ts";
import {
  cachesOf,
  forkRecord,
  LayerAttention,
  type LayerFeed,
  type LayerRecord,
  needsOf,
  openRecord,
  showRows,
} from "./layer_attention.ts";
import { KeyJudge } from "./key_judge.ts";
import { type PromptWatch, watchPrompt } from "../pruning/prompt_watch.ts";
import type { ForwardPass, RunModel, See, Tokens } from "./forward_pass.ts";
import { range, type Rows } from "./cache/row_indices.ts";
import type { TokenIds } from "../../filter/layer.ts";
import { type SequenceUsage, usageOf } from "./usage.ts";
import { countDropped } from "../weights.ts";

/** Tokens that go through the layers together; a longer feed is cut, unless the pruner is non-causal. */
export const FEED_ROWS = 512;

/** @internal Tokens of one sequence, and where they stand. */
export type PieceTokens = Required<Tokens> & {
  readonly places: Rows;
  /** Whether its method reads outputs of attention. */
  readonly seesOutputs: boolean;
};

/** @internal Options of `Model.start`. */
export interface SequenceOptions {
  /** 0-based index of the sequence in a text that is scored in chunks; the `random` rule reads it. Default 0. */
  readonly chunk?: number;
  /** Element type of the KV cache. Default: the model's. */
  readonly cacheDType?: CacheDType;
  /**
   * Observer of rows.
   * @internal
   */
  readonly see?: See;
}

const OPTIONS: Record<keyof SequenceOptions, true> = { chunk: true, cacheDType: true, see: true };

/**
 * A sequence; made by `Model.start`. `using` gives the memory of its caches back where the block ends, {@linkcode free}
 * at once; later uses of the caches throw an `Error`. Without either, that memory is freed late.
 */
export class ModelSequence implements Disposable {
  readonly #model: RunModel;
  #pruner: Pruner | undefined;
  readonly #cacheDType: CacheDType;
  readonly #options: SequenceOptions;
  #pass: ForwardPass;
  #decider: SideSequence | undefined;
  /** Until its method has altered the model for it. */
  #watch: PromptWatch | undefined;
  /** Operations of MLPs that the altered model spares, a token. */
  #spared = 0;
  #judge: KeyJudge | undefined;
  #layers: LayerRecord[];
  #length = 0;
  /** Layers below this one were run elsewhere: they have no cache here. */
  #lowest = 0;
  #freed = false;
  /** Its ids, where it was fed some and has a method. */
  #ids: number[] = [];

  /** Use `Model.start`. */
  constructor(model: RunModel, pruner: Pruner | undefined, options: SequenceOptions) {
    expectOptions(options, OPTIONS);
    const { numLayers } = model.config, { chunk = 0, cacheDType = model.cacheDType } = options;
    expectInteger("chunk", chunk, 0);
    expectName("cacheDType", cacheDType, CACHE_DTYPES);
    if (pruner !== undefined) expectTypeOf("start of a pruner", pruner?.start, "function");
    const unknown = pruner && filteredLayers(pruner).find((layer) => !(layer >= 0 && layer < numLayers));
    if (unknown !== undefined) {
      throw new RangeError(`Cannot filter layer ${unknown}: the model's layers are 0 to ${numLayers - 1}`);
    }
    if (pruner !== undefined) checkWindows(pruner, model.config);
    this.#model = model;
    this.#pruner = pruner;
    this.#options = options;
    this.#cacheDType = cacheDType;
    this.#pass = createForwardPass(model);
    const adapts = preparationOf(pruner, "adapt");
    this.#watch = adapts && watchPrompt(model, adapts);
    this.#pass.see = options.see ?? this.#watch?.see;
    this.#decider = pruner?.start(chunk);
    const side = pruner?.keySide;
    this.#judge = side && new KeyJudge(pruner!.spans, side.start(chunk), side.layers, side.heads);
    this.#layers = Array.from(
      { length: numLayers },
      (_, layer) => openRecord(model, pruner, layer, this.#cacheDType),
    );
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
   * Per layer of the method's key side, one entry for each token so far: 0 = its key and value were evicted; where KV heads
   * have rows of their own, how many keep them.
   */
  get kvKeep(): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    return this.#judge?.keep(this.#length) ?? new Map();
  }

  /**
   * Per layer of the method's key side, one list for all its KV heads, or for each that has rows of its own: by token so far,
   * the position from which on no query attends to it; 2^31 - 1 where it stays.
   */
  get kvEnds(): ReadonlyMap<number, readonly Int32Array<ArrayBuffer>[]> {
    return this.#judge?.ends(this.#length) ?? new Map();
  }

  /**
   * Feeds the next tokens, and returns when that is done: meanwhile the thread does nothing else. A program that must
   * also answer requests runs models in a Worker, or feeds in pieces; docs/reference/library.md shows both.
   *
   * @returns hidden states after the final norm, [T, hiddenSize] f32, for `Model.logits`
   * @throws {TypeError} If the ids are no `Int32Array`.
   * @throws {RangeError} On an unknown id, or if the pruner is non-causal and this is not the first feed.
   */
  feed(ids: Int32Array<ArrayBuffer>): Tensor {
    this.#expectHeld();
    if (this.#lowest > 0) {
      throw new RangeError("Cannot feed tokens after a residual stream: the layers below it have no cache");
    }
    this.note(ids);
    return this.#throughLayers(this.#model.embed(ids), 0);
  }

  /**
   * Feeds a whole sequence as the residual stream that enters `layer`, [T, hiddenSize] f32, from
   * `Model.residualAt`. The stream is left as it is.
   *
   * @param ids Of its tokens, for a method that looks at them.
   * @throws {RangeError} If there is no such layer, tokens were fed before, or a layer below `layer` is filtered or read.
   */
  feedResidual(residual: Tensor, layer: number, ids?: Int32Array): Tensor {
    this.#expectHeld();
    expectInteger("layer", layer, 0, this.#model.config.numLayers);
    expectTensor("residual", residual, "f32", [-1, this.#model.config.hiddenSize]);
    if (this.#length > 0) throw new RangeError("Cannot feed a residual stream: the sequence has begun");
    if (this.#pruner !== undefined && filteredLayers(this.#pruner).some((filtered) => filtered < layer)) {
      throw new RangeError(`Cannot start at layer ${layer}: a layer below it is filtered or read`);
    }
    this.#lowest = layer;
    if (ids !== undefined) this.note(ids);
    const copy = this.#model.backend.resizeRows(residual, residual.shape[0]!);
    return this.#throughLayers(copy, layer);
  }

  /** The residual stream that enters `layer`, of the first tokens, [T, hiddenSize]. The sequence ends with it. */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor {
    this.#expectHeld();
    expectInteger("layer", layer, 0, this.#model.config.numLayers);
    this.#lowest = this.#model.config.numLayers;
    return this.#run(this.#model.embed(ids), 0, layer);
  }

  /**
   * Output of a layer for a whole sequence's residual stream, which it takes over. The sequence ends with it. @internal
   */
  throughLayer(x: Tensor, layer: number): Tensor {
    this.#lowest = this.#model.config.numLayers;
    return this.#run(x, layer, layer + 1);
  }

  /**
   * The layers' caches, the filter's states where the method has them, and the key side; to continue in a batch.
   * Shared, not copied.
   * @internal
   */
  exportState(): {
    readonly caches: readonly LayerCache[];
    /** By layer, those of all its KV heads: of the heads that keep everything first. */
    readonly groups: readonly (readonly LayerCache[])[];
    readonly states: readonly LayerState[] | undefined;
    readonly judge: KeyJudge | undefined;
    readonly pruner: Pruner | undefined;
  } {
    this.#expectHeld();
    return {
      caches: this.#layers.map(({ cache }) => cache),
      groups: this.#layers.map(cachesOf),
      states: this.#decider?.states,
      judge: this.#judge,
      pruner: this.#pruner,
    };
  }

  /** Cost and savings so far. */
  usage(): SequenceUsage {
    this.#expectHeld();
    const { config } = this.#model;
    const rowBytes = LayerCache.rowBytes(this.#cacheDType, config.numKvHeads * config.headDim);
    const layers = this.#layers.slice(this.#lowest);
    const below = this.#lowest * this.#length * rowBytes;
    const allocatedBytes = layers.reduce(
      (sum, layer) => cachesOf(layer).reduce((own, cache) => own + cache.allocatedBytes, sum),
      below,
    );
    const drops = preparationOf(this.#pruner, "drop"), { mlp = [], from = 0 } = drops ?? {};
    const { unaltered, weights, parameters } = this.#model;
    const held = parameters - countDropped(weights, drops);
    const droppedMlpRows = mlp.filter((layer) => layer >= this.#lowest).length *
      Math.max(0, this.#length - from);
    const cost = {
      rowBytes,
      allocatedBytes,
      droppedMlpRows,
      dense: unaltered.config,
      sparedFlops: this.#spared * Math.max(0, this.#length - (this.#pruner?.spans.warmup ?? 0)),
      parametersDense: unaltered.parameters,
      parametersAvoided: unaltered.parameters - held,
    };
    return usageOf(config, layers.map(({ tally }) => tally), cost, this.#length);
  }

  /** An independent copy, to branch a sequence. */
  fork(): ModelSequence {
    this.#expectHeld();
    const copy = new ModelSequence(this.#model, this.#pruner, this.#options);
    copy.#decider = this.#decider?.fork();
    copy.#judge = this.#judge?.fork();
    copy.#layers = this.#layers.map(forkRecord);
    copy.#watch = this.#watch?.clone();
    copy.#spared = this.#spared;
    copy.#pass = this.#pass.again();
    copy.#pass.see = copy.#watch?.see;
    copy.#length = this.#length;
    copy.#lowest = this.#lowest;
    copy.#ids = [...this.#ids];
    return copy;
  }

  /**
   * Gives the memory of its caches back at once; once more does nothing. Its length and decisions can still be read, all
   * else throws an `Error`. Where it is not called, memory is freed late, which on a device may be too late.
   */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    for (const cache of this.#layers.flatMap(cachesOf)) cache.free();
    this.#pass.free();
  }

  /** {@linkcode free}, where a block with `using` ends. */
  [Symbol.dispose](): void {
    this.free();
  }

  #expectHeld(): void {
    if (this.#freed) throw new Error("Cannot use this sequence: it was freed");
  }

  /** Hidden states of rows of the residual stream, which it takes over, after the layers from `from` on. */
  #throughLayers(rows: Tensor, from: number): Tensor {
    const { backend, config } = this.#model, rehearsal = preparationOf(this.#pruner, "rehearse");
    if (rehearsal !== undefined) this.#rehearse(rehearsal, rows, from);
    const x = this.#run(rows, from, config.numLayers);
    const out = backend.alloc("f32", [x.shape[0]!, config.hiddenSize], true);
    this.#pass.finish(x, out);
    backend.free(x);
    return out;
  }

  /** Runs another method over a copy of the rows, and continues with the method that follows from its decisions. */
  #rehearse({ of, then }: Rehearsal, rows: Tensor, from: number): void {
    const { backend } = this.#model, first = new ModelSequence(this.#model, of, this.#options);
    first.#lowest = this.#lowest;
    first.#ids = [...this.#ids];
    backend.free(first.#throughLayers(backend.resizeRows(rows, rows.shape[0]!), from));
    const own = new ModelSequence(this.#model, then(first), this.#options);
    first.free();
    this.#pruner = own.#pruner;
    this.#decider = own.#decider;
    this.#judge = own.#judge;
    this.#layers = own.#layers;
  }

  /** Runs rows of the residual stream, which it takes over, through layers [from, to). */
  #run(x: Tensor, from: number, to: number): Tensor {
    const total = x.shape[0]!;
    this.expectNext(this.#model, total);
    if (this.nextPiece(total) === total) {
      this.#pass.run(x, from, to, this.begin(total));
      this.end(total);
      return x;
    }
    const out = this.#model.backend.alloc("f32", x.shape, true);
    for (let at = 0; at < total;) {
      const count = this.nextPiece(total - at), piece = this.#pass.gather("piece", x, range(at, count));
      this.#pass.run(piece, from, to, this.begin(count));
      this.#model.backend.storeRows(piece, out, at);
      this.end(count); // may give the pass's scratch back, the piece with it
      at += count;
    }
    this.#model.backend.free(x);
    return out;
  }

  /** Notes the ids of the next tokens, which are then fed. @internal */
  note(ids: Int32Array): void {
    if (this.#pruner === undefined) return;
    for (let i = 0; i < ids.length; i++) this.#ids[this.#length + i] = ids[i]!;
  }

  /** The ids of the next `count` tokens, where they were noted. */
  #tokensOf(count: number): TokenIds | undefined {
    const ids = Int32Array.from(this.#ids.slice(this.#length, this.#length + count));
    return ids.length < count ? undefined : { ids, textOf: this.#model.textOf };
  }

  /** Refuses a number of tokens of a model where they cannot come next. @internal */
  expectNext({ unaltered }: RunModel, total: number): void {
    this.#expectHeld();
    if (this.#model.unaltered !== unaltered) {
      throw new RangeError(
        "Cannot feed a sequence of another model: expected one that this model has started",
      );
    }
    expectPositions(this.#model.config, this.#length + total);
    if (takesWhole(this.#pruner) && this.#length > 0) {
      throw new RangeError(
        `Cannot go on with a non-causal pruner ("${this.#pruner!.name}"): expected one prefill of all tokens`,
      );
    }
  }

  /** Whether its tokens may go through a model's layers next to those of others. @internal */
  joins(model: RunModel): boolean {
    const kind = this.#pruner?.prepare?.kind;
    return this.#model === model && this.#pass.see === undefined && kind !== "adapt" && kind !== "rehearse";
  }

  /** How many of the next `left` tokens may go through the layers together now. @internal */
  nextPiece(left: number): number {
    if (takesWhole(this.#pruner)) return left;
    const warmup = this.#pruner?.at === "warm-up" ? this.#pruner.spans.warmup : 0;
    const open = Math.max(warmup, preparationOf(this.#pruner, "drop")?.from ?? 0) - this.#length;
    const block = this.#pruner?.keySide?.at === "pass"
      ? this.#judge!.nextStart(this.#length) - this.#length
      : Infinity;
    return Math.min(left, block, open > 0 ? Math.min(FEED_ROWS, open) : FEED_ROWS);
  }

  /**
   * The next `count` tokens, as input of a pass; {@linkcode end} is called after them.
   * @internal
   */
  begin(count: number): PieceTokens {
    const places = range(this.#length, count), drops = preparationOf(this.#pruner, "drop");
    const { needs = [], skipped } = this.#pruner ?? {}, tokens = this.#tokensOf(count);
    return {
      places,
      seesOutputs: skipped?.substitute !== undefined || needs.includes("outputs") ||
        needs.includes("warm-up outputs"),
      positions: this.#pass.i32(places),
      needsOf: (layer) => needsOf(this.#pruner, layer),
      // The piece was cut so that all its tokens have the same parts.
      drops: (layer, part) => this.#length >= (drops?.from ?? 0) && drops?.[part].includes(layer) === true,
      // The output is taken only where a signal follows from it.
      seeMlp: (layer, output) =>
        showRows(this.#feedOf(layer, tokens), layer, count, {
          get mlp() {
            return output();
          },
        }),
      attend: (rows, pass) => new LayerAttention(this.#feedOf(rows.layer, tokens), rows, pass).run(),
    };
  }

  /** Counts tokens that have passed the layers. @internal */
  end(count: number): void {
    this.#length += count;
    if (this.#watch === undefined || this.#length < this.#pruner!.spans.warmup) return;
    // From here on the model is the one that the warm-up has led to; attention is as it was.
    const { model, sparedFlops } = this.#watch.alter();
    this.#spared = sparedFlops;
    this.#pass.free();
    this.#pass = createForwardPass(model);
    this.#watch = undefined;
  }

  #feedOf(layer: number, tokens: TokenIds | undefined): LayerFeed {
    const pruner = this.#pruner, ask = pruner?.keySide?.asks?.get(layer);
    return {
      model: this.#model,
      pass: this.#pass,
      pruner,
      decider: pruner?.layers.includes(layer) ? this.#decider : undefined,
      judge: pruner?.keySide?.layers.includes(layer) ? this.#judge : undefined,
      asked: ask && { by: this.#judge!, ask },
      record: this.#layers[layer]!,
      length: this.#length,
      tokens,
    };
  }
}
