/** Decoding many sequences at once on a device: one recorded step, replayed for every token, without the host. */
import type { AttentionArgs } from "../../../backend.ts";
import type { BatchCache, BatchRows, BatchStates, RecordedWork } from "../../../batch_ops.ts";
import { byteSize, CACHE_DTYPES, type CacheDType } from "../../../dtype.ts";
import { expectInstance, expectInteger, expectName, expectOptions } from "../../../errors.ts";
import type { LayerState } from "../../../filter/layer.ts";
import { preparationOf, type Pruner, takesWhole } from "../../../methods/protocol/pruner.ts";
import { countOf, expectIds, hostTensor, type Tensor } from "../../../tensor.ts";
import {
  type BatchHeads,
  type BatchLayer,
  createBatchCache,
  createBatchDecisions,
  createBatchStates,
  tensorsOfLayer,
} from "./batch_state.ts";
import { expectPositions, layerConfig } from "../../config/config.ts";
import { endsOf } from "../key_judge.ts";
import { type CachedRows, LayerCache } from "../cache/kv_cache.ts";
import { createForwardPass } from "../../architectures/mod.ts";
import type { Addend, ForwardPass, LayerRows, RunModel } from "../forward_pass.ts";
import { needsOf } from "../layer_attention.ts";
import { ModelSequence } from "../sequence.ts";
import { headWeights } from "../signals.ts";
import { type JudgedLayer, roomOf, SlotJudge } from "./slot_judge.ts";
import { type LayerTally, type SequenceUsage, usageOf } from "../usage.ts";

/** @internal Sizes and types of a {@linkcode BatchDecoder}. */
export interface BatchOptions {
  readonly batch: number;
  /** Tokens that a sequence can grow to, those admitted included. */
  readonly capacity: number;
  /**
   * Rows of a slot's cache in each layer whose keys and values are decided: where they go, fewer than tokens do. A token
   * that finds no row is an error. Default: `capacity`.
   */
  readonly judgedRows?: number;
  /** Element type of the KV cache; that of the sequences admitted. Default: the model's. */
  readonly cacheDType?: CacheDType;
}

const OPTIONS: Record<keyof BatchOptions, true> = {
  batch: true,
  capacity: true,
  judgedRows: true,
  cacheDType: true,
};

/** Why sequences of a method (default: dense) cannot be decoded by {@linkcode BatchDecoder}; undefined: they can. */
export function batchUnsupportedReason(pruner: Pruner | undefined): string | undefined {
  if (pruner === undefined) return undefined;
  if (preparationOf(pruner, "rehearse")) return `the method "${pruner.name}" takes decisions of another run`;
  if (pruner.prepare !== undefined) return `the method "${pruner.name}" alters the model`;
  if (pruner.skipped.substitute !== undefined) return "skipped outputs are replaced on the host";
  if (pruner.at === "warm-up") return "each sequence has ratios of its own";
  if (takesWhole(pruner)) return `the method "${pruner.name}" is non-causal`;
  if (pruner.layers.length > 0 && pruner.specs === undefined) {
    return `the method "${pruner.name}" decides on the host, or is traced`;
  }
  const { keySide } = pruner;
  if (keySide !== undefined && keySide.specs === undefined && !keySide.readsChangesOnly) {
    return "keys and values are decided on the host, or traced";
  }
  return undefined;
}

/**
 * Runs decode steps of a batch. Every kernel of a skipped token reads the decision on the device and leaves at once;
 * from the second step on, the whole step is one graph. `using` frees that, and the tensors of all slots, at once;
 * otherwise they are freed with the decoder, some time after its last use.
 */
export class BatchDecoder implements Disposable {
  readonly #model: RunModel;
  readonly #pass: ForwardPass;
  readonly #pruner: Pruner | undefined;
  readonly #options: Required<BatchOptions>;
  readonly #layers: readonly BatchLayer[];
  readonly #keep: Tensor;
  readonly #kvKeep: Tensor;
  /** Where the host decides keys: what judges those of each slot. */
  readonly #judges: (SlotJudge | undefined)[] = [];
  readonly #ids: Tensor;
  readonly #positions: Tensor;
  readonly #x: Tensor;
  readonly #hidden: Tensor;
  readonly #logits: Tensor;
  readonly #lengths: Int32Array<ArrayBuffer>;
  #steps = 0;
  /** Whether {@linkcode #ids} has the likeliest tokens of the last step. */
  #chosen = false;
  #recorded: RecordedWork | undefined;
  #disposed = false;

  /**
   * Allocates caches and states; all slots are idle.
   *
   * @param pruner Takes its decisions on the device; without one all attention is computed.
   * @throws {TypeError} If an option is unknown.
   * @throws {RangeError} If a size is not a positive integer, or the method cannot decide on a device.
   */
  constructor(model: RunModel, pruner: Pruner | undefined, options: BatchOptions) {
    expectOptions(options, OPTIONS);
    const { batch, capacity, judgedRows = capacity, cacheDType = model.cacheDType } = options;
    if (!Number.isInteger(batch) || batch < 1 || !Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(
        `Cannot decode ${batch} sequences of ${capacity} tokens: expected positive integers`,
      );
    }
    expectInteger("judgedRows", judgedRows, 1, capacity);
    expectName("cacheDType", cacheDType, CACHE_DTYPES);
    expectPositions(model.config, capacity);
    const reason = batchUnsupportedReason(pruner);
    if (reason !== undefined) throw new RangeError(`Cannot decode a batch on a device: ${reason}`);
    this.#model = model;
    this.#pass = createForwardPass(model);
    this.#pruner = pruner;
    this.#options = { batch, capacity, judgedRows, cacheDType };
    const { backend, config } = model;
    const { numLayers, hiddenSize, vocabSize } = config;
    this.#keep = backend.alloc("u8", [numLayers, batch]);
    this.#kvKeep = backend.alloc("u8", [pruner?.keySide?.layers.length ?? 0, batch]);
    this.#layers = Array.from({ length: numLayers }, (_, layer) => this.#createLayer(layer));
    this.#ids = backend.alloc("i32", [batch]);
    this.#positions = backend.upload(hostTensor("i32", [batch], new Int32Array(batch).fill(-1)));
    this.#lengths = new Int32Array(batch).fill(-1);
    this.#x = backend.alloc("f32", [batch, hiddenSize]);
    this.#hidden = backend.alloc("f32", [batch, hiddenSize]);
    this.#logits = backend.alloc("f32", [batch, vocabSize]);
  }

  /** Tokens of each sequence, -1 where the slot is idle. */
  get lengths(): Int32Array {
    return this.#lengths;
  }

  /**
   * Cost and savings of a sequence, from tallies of its decisions that the caller counted from {@linkcode keep}, per
   * layer. Memory allocated is a slot's: it does not grow.
   * @internal
   */
  usageOf(tallies: readonly LayerTally[], tokens: number): SequenceUsage {
    const { config } = this.#model, { cacheDType } = this.#options;
    const rowBytes = LayerCache.rowBytes(cacheDType, config.numKvHeads * config.headDim);
    const allocatedBytes = this.#layers.reduce(
      (sum, { cache, heads }) =>
        (heads?.map((own) => own.cache) ?? [cache]).reduce(
          (own, { keys: { shape } }) =>
            own + (shape[1]! + this.#ringRows) * rowBytes * shape[2]! / config.numKvHeads,
          sum,
        ),
      0,
    );
    const { parameters: parametersDense } = this.#model;
    return usageOf(config, tallies, { rowBytes, allocatedBytes, parametersDense }, tokens);
  }

  /**
   * Takes a sequence over after its prefill. Do not call `feed` on the sequence afterwards.
   *
   * @param slot 0-based, idle
   * @param sequence of this model and this pruner, with this cache type
   * @throws {RangeError} If the slot is taken or not there, or the sequence is too long or of another model or method.
   */
  admit(slot: number, sequence: ModelSequence): void {
    this.#expectOpen();
    expectInstance("sequence", sequence, ModelSequence);
    sequence.expectNext(this.#model, 0);
    const { batch, capacity } = this.#options;
    if (this.#lengths[slot] !== -1) {
      throw new RangeError(
        `Cannot admit a sequence to slot ${slot}: expected an idle one of 0 to ${batch - 1}`,
      );
    }
    if (sequence.length >= capacity) {
      throw new RangeError(
        `Cannot admit a sequence of ${sequence.length} tokens: expected fewer than the capacity of ${capacity}`,
      );
    }
    const { groups, states, judge, pruner } = sequence.exportState();
    const isOther = (pruner === undefined) !== (this.#pruner === undefined) ||
      this.#layers.some(({ states: own, keys, changes, heads }, layer) =>
        own !== undefined && states === undefined || keys !== undefined && judge?.states === undefined ||
        changes !== undefined && !pruner!.keySide?.readsChangesOnly ||
        (heads?.length ?? 1) !== groups[layer]!.length
      );
    if (isOther) {
      const name = pruner?.name ?? "dense", expected = "expected one of the method of this decoder";
      throw new RangeError(`Cannot admit a sequence of the method "${name}": ${expected}`);
    }
    for (const layer of this.#layers.keys()) {
      // A token more than a sequence has must fit.
      const { count } = groups[layer]!.at(-1)!.kept, rows = this.#rowsOf(layer);
      if (count < rows) continue;
      throw new RangeError(
        `Cannot admit a sequence of ${count} rows in layer ${layer}: expected fewer than the ${rows} of its cache`,
      );
    }
    for (const [layer, { cache, heads, states: own, keys }] of this.#layers.entries()) {
      const caches = heads?.map((own) => own.cache) ?? [cache];
      const [positions] = groups[layer]!.map(({ kept, recent }, i) =>
        this.#admitCache(slot, caches[i]!, kept, recent)
      ).reverse() as [Int32Array<ArrayBuffer>];
      if (own !== undefined) this.#writeState(own, slot, states![pruner!.layers.indexOf(layer)]!);
      if (keys === undefined) continue;
      this.#writeState(keys.states, slot, judge!.states![pruner!.keySide!.layers.indexOf(layer)]!);
      this.#writeRow(keys.ends, slot, "i32", endsOf(positions, judge!.ending(layer)));
    }
    if (this.#pruner?.keySide?.readsChangesOnly) {
      const own = new SlotJudge(this.#model.backend, slot, this.#pruner.spans, judge!, sequence.length);
      for (const judged of this.#judged) own.admit(judged, groups[judged.layer]!.at(-1)!.kept);
      this.#judges[slot] = own;
    }
    this.#lengths[slot] = sequence.length;
    this.#writeRow(this.#positions, slot, "i32", Int32Array.of(sequence.length));
  }

  /** Begins a sequence of no tokens yet in a slot. @throws {RangeError} If the slot is taken or not there. */
  begin(slot: number): void {
    const { cacheDType } = this.#options;
    this.admit(slot, new ModelSequence(this.#model, this.#pruner, { cacheDType }));
  }

  /** Makes a slot idle. @throws {RangeError} If it is not there. */
  release(slot: number): void {
    this.#expectOpen();
    expectInteger("slot", slot, 0, this.#options.batch - 1);
    this.#lengths[slot] = -1;
    this.#judges[slot] = undefined;
    this.#writeRow(this.#positions, slot, "i32", Int32Array.of(-1));
  }

  /**
   * Feeds one token to every sequence that is not idle.
   *
   * @param ids [batch]; those of idle slots are ignored. Without ids the likeliest tokens of the last step are fed.
   * @returns logits [batch, vocabSize] f32, overwritten by the next step; rows of idle slots mean nothing
   * @throws {TypeError} If the ids are no `Int32Array`.
   * @throws {RangeError} On an unknown id or another number of them, if a sequence has reached the capacity, or if there is no
   * step whose tokens could be fed.
   */
  step(ids?: Int32Array<ArrayBuffer>): Tensor {
    this.#expectOpen();
    const { batch, capacity } = this.#options, { backend } = this.#model;
    if (this.#lengths.some((length) => length >= capacity)) {
      throw new RangeError(`Cannot feed a token: a sequence has reached the capacity of ${capacity} tokens`);
    }
    if (ids === undefined) {
      if (this.#steps === 0) {
        throw new RangeError("Cannot feed likeliest tokens: expected ids for the first step");
      }
      this.#choose();
    } else {
      expectInstance("ids", ids, Int32Array);
      const known = ids.map((id, slot) => this.#lengths[slot]! < 0 ? 0 : id);
      expectIds(known, this.#model.config.vocabSize);
      backend.write(this.#ids, hostTensor("i32", [batch], known));
    }
    this.#lengths.forEach((length, slot) => this.#judges[slot]?.begin(length, this.#judged));
    // The first step runs as it is: a device loads kernels when they are first launched, which no recording allows.
    if (this.#steps === 0 || backend.record === undefined) this.#enqueue();
    else (this.#recorded ??= backend.record(() => this.#enqueue())).launch();
    this.#steps++;
    this.#chosen = false;
    this.#lengths.forEach((length, slot) => length >= 0 && this.#lengths[slot]!++);
    return this.#logits;
  }

  /**
   * The likeliest tokens of the last step, [batch], which the next step feeds where it gets no ids; those of idle slots mean
   * nothing. Waits for the device.
   *
   * @throws {RangeError} If there was no step.
   */
  ids(): Int32Array {
    this.#expectOpen();
    if (this.#steps === 0) throw new RangeError("Cannot give likeliest tokens: expected a step before");
    this.#choose();
    return this.#model.backend.read(this.#ids).data as Int32Array;
  }

  #choose(): void {
    if (!this.#chosen) this.#model.backend.argmax(this.#logits, this.#ids);
    this.#chosen = true;
  }

  /** The decisions of the last step, [numLayers, batch]: 1 = computed. Waits for the device. */
  keep(): Uint8Array {
    this.#expectOpen();
    return this.#model.backend.read(this.#keep).data as Uint8Array;
  }

  /**
   * Whether key and value of the tokens of the last step stay, [layers of the method's key side, batch]: 0 = they are
   * evicted when they are decided. Waits for the device.
   */
  kvKeep(): Uint8Array {
    this.#expectOpen();
    return this.#model.backend.read(this.#kvKeep).data as Uint8Array;
  }

  /**
   * As `ModelSequence.kvKeep`, of a slot, where the host decides keys, or undefined: then {@linkcode kvKeep} has nothing to
   * say of them.
   */
  judged(slot: number): ReadonlyMap<number, Uint8Array<ArrayBuffer>> | undefined {
    this.#expectOpen();
    return this.#judges[slot]?.keep(this.#lengths[slot]!);
  }

  /**
   * Frees the recorded step, then caches, states and the logits that {@linkcode step} gave. Later calls throw an
   * `Error`; a second dispose does nothing.
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recorded?.[Symbol.dispose]();
    const ofLayers = this.#layers.flatMap(tensorsOfLayer);
    const own = [this.#keep, this.#kvKeep, this.#ids, this.#positions, this.#x, this.#hidden, this.#logits];
    for (const tensor of [...ofLayers, ...own]) this.#model.backend.free(tensor);
    this.#pass.free();
  }

  #expectOpen(): void {
    if (this.#disposed) throw new Error("Cannot use this batch decoder: it was disposed");
  }

  #enqueue(): void {
    const { backend, config } = this.#model;
    this.#pass.embed(this.#ids, this.#x);
    this.#pass.run(this.#x, 0, config.numLayers, {
      positions: this.#positions,
      needsOf: (layer) => needsOf(this.#pruner, layer),
      attend: (rows, pass) => this.#attend(rows, pass),
    });
    this.#pass.finish(this.#x, this.#hidden);
    this.#pass.logits(this.#hidden, this.#logits);
    backend.advance(this.#positions);
  }

  /** Attention of the next token of every sequence; those that are kept stay in their rows. */
  #attend(rows: LayerRows, pass: ForwardPass): Addend {
    const { backend } = this.#model, pruner = this.#pruner, { residual, positions } = rows;
    const { cache, heads, states, keys, changes, decisions } = this.#layers[rows.layer]!;
    const { window } = layerConfig(this.#model.config, rows.layer);
    const asked = pruner?.needs.includes("queries") ? rows : { ...rows, queries: undefined };
    const append = (cache: BatchCache, rows: BatchRows) =>
      backend.kvFilterStep(states, cache, rows, pruner?.skipped.cached ?? false, decisions);
    for (const own of heads ?? []) append(own.cache, this.#rowsOfHeads(rows, own, pass));
    if (heads === undefined) append(cache, asked);
    if (keys !== undefined) backend.kvKeyStep(keys, cache, asked);
    const output = pass.attendRows(rows, {
      positions,
      only: decisions,
      select: (_, x) => x,
      attend: (queries, out, scale) => {
        const attend = (own: BatchCache, kvPlaces?: AttentionArgs["kvPlaces"]) =>
          backend.attentionDecode(own, queries, positions, decisions, scale, out, window, {
            ...(kvPlaces && { kvPlaces }),
            changes: own === cache ? changes : undefined,
          });
        if (heads === undefined) return attend(cache);
        const of = this.#model.config.numKvHeads;
        for (const own of heads) attend(own.cache, { places: own.places, of });
      },
    });
    if (states !== undefined && pruner!.needs.includes("outputs")) {
      backend.kvFilterObserveBatch(states, decisions, output, residual);
    }
    return { delta: output, only: decisions };
  }

  /** Keys and values of some KV heads, in scratch. */
  #rowsOfHeads(rows: LayerRows, { cache, rows: chosen }: BatchHeads, pass: ForwardPass): BatchRows {
    const shape = cache.keys.shape.toSpliced(1, 1);
    const pick = (name: string, x: Tensor) => {
      const out = pass.scratch(`${name} of ${shape[1]} heads`, shape), width = shape[2]!;
      const flat = (x: Tensor) => ({ ...x, shape: [countOf(x.shape) / width, width] });
      this.#model.backend.gatherRows(flat(x), chosen, flat(out));
      return out;
    };
    const keys = pick("keys", rows.keys), values = pick("values", rows.values);
    return { ...rows, keys, values, filterKeys: keys, queries: undefined };
  }

  /** The layers whose keys the host decides. */
  get #judged(): JudgedLayer[] {
    return this.#layers.flatMap(({ cache, changes }, layer) => changes ? [{ layer, cache, changes }] : []);
  }

  #createLayer(layer: number): BatchLayer {
    const { numKvHeads, headDim } = this.#model.config, { backend } = this.#model, recent = this.#ringRows;
    const { batch, cacheDType: dtype, capacity: most } = this.#options, capacity = this.#rowsOf(layer);
    const { layers = [], specs, keySide, spans } = this.#pruner ?? {}, parts = keySide?.heads?.get(layer);
    const open = (numKvHeads: number, capacity: number) =>
      createBatchCache(backend, { batch, capacity, recent, numKvHeads, headDim, dtype });
    const i32 = (values: number[]) =>
      backend.upload(hostTensor("i32", [values.length], Int32Array.from(values)));
    const heads = parts &&
      [[parts.whole, most] as const, [parts.others, capacity] as const].map(([own, rows]) => ({
        cache: open(own.length, rows),
        places: i32([...own]),
        rows: i32(
          Array.from({ length: batch }, (_, slot) => own.map((head) => slot * numKvHeads + head)).flat(),
        ),
      }));
    const ask = keySide?.readsChangesOnly && keySide.asks?.get(layer);
    const index = layers.indexOf(layer), keyIndex = keySide?.layers.indexOf(layer) ?? -1;
    return {
      cache: heads?.[1]?.cache ?? open(numKvHeads, capacity),
      heads,
      changes: ask && {
        out: backend.alloc("f64", [batch, ...roomOf(spans!)]),
        headWeights: headWeights(this.#model, layer),
        first: backend.alloc("i32", [batch]),
        distance: ask.distance,
      },
      states: index < 0 ? undefined : createBatchStates(backend, specs![index]!, batch),
      keys: keySide?.specs === undefined || keyIndex < 0 ? undefined : {
        states: createBatchStates(backend, keySide.specs[keyIndex]!, batch),
        ends: backend.alloc("i32", [batch, capacity]),
        keep: backend.row(this.#kvKeep, keyIndex),
      },
      decisions: createBatchDecisions(backend, batch, this.#model.backend.row(this.#keep, layer)),
    };
  }

  #rowsOf(layer: number): number {
    const { capacity, judgedRows } = this.#options;
    return this.#pruner?.keySide?.layers.includes(layer) ? judgedRows : capacity;
  }

  /** Rows of the recent window: none where skipped tokens are cached. */
  get #ringRows(): number {
    return this.#pruner === undefined || this.#pruner.skipped.cached ? 0 : this.#pruner.spans.recent;
  }

  /** Copies a sequence's rows to a slot; gives their positions, [capacity]. */
  #admitCache(
    slot: number,
    cache: BatchCache,
    kept: CachedRows,
    skipped: CachedRows,
  ): Int32Array<ArrayBuffer> {
    const { backend } = this.#model, recent = this.#ringRows, capacity = cache.positions.shape[1]!;
    const wide = (tensor: Tensor, rows: number): Tensor => ({
      ...tensor,
      shape: [rows, tensor.shape.slice(-2).reduce((a, b) => a * b, 1)],
    });
    const copy = (from: Tensor, fromRow: number, to: Tensor, rows: number, toRow: number, count: number) =>
      backend.copyRows(from, fromRow, wide(to, this.#options.batch * rows), slot * rows + toRow, count);
    copy(kept.keys, 0, cache.keys, capacity, 0, kept.count);
    copy(kept.values, 0, cache.values, capacity, 0, kept.count);
    const positions = new Int32Array(capacity);
    positions.set(kept.positions.subarray(0, kept.count));
    this.#writeRow(cache.positions, slot, "i32", positions);
    this.#writeRow(cache.counts, slot, "i32", Int32Array.of(kept.count));
    if (recent === 0) return positions;
    const ring = new Int32Array(recent).fill(-1);
    for (let i = 0; i < skipped.count; i++) {
      const position = skipped.positions[i]!;
      copy(skipped.keys, i, cache.recentKeys, recent, position % recent, 1);
      copy(skipped.values, i, cache.recentValues, recent, position % recent, 1);
      ring[position % recent] = position;
    }
    this.#writeRow(cache.recentPositions, slot, "i32", ring);
    return positions;
  }

  #writeState(to: BatchStates, slot: number, state: LayerState): void {
    for (const name of ["anchorK", "anchorV", "numbers", "scores", "learned"] as const) {
      if (state[name].length > 0) this.#writeRow(to[name], slot, to[name].dtype, state[name]);
    }
  }

  #writeRow(
    to: Tensor,
    slot: number,
    dtype: Tensor["dtype"],
    values: Int32Array | Float32Array | Float64Array,
  ): void {
    const shape = to.shape.slice(1);
    const bytes = byteSize(dtype, shape.reduce((a, b) => a * b, 1));
    if (values.byteLength !== bytes) {
      throw new RangeError(`Cannot admit this sequence: found ${values.byteLength} bytes for ${bytes}`);
    }
    this.#model.backend.write(this.#model.backend.row(to, slot), hostTensor(dtype, shape, values));
  }
}
