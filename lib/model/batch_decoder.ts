/** Decoding many sequences at once on a device: one recorded step, replayed for every token, without the host. */
import type { Backend } from "../backend.ts";
import type { BatchCache, BatchDecisions, BatchStates, RecordedWork } from "../batch_ops.ts";
import { byteSize, type CacheDType } from "../dtype.ts";
import type { Pruner } from "../methods/pruner.ts";
import { hostTensor, type Tensor } from "../tensor.ts";
import { createBatchCache, createBatchDecisions, createBatchStates, tensorsOfLayer } from "./batch_state.ts";
import { type CachedRows, LayerCache } from "./kv_cache.ts";
import type { Llama } from "./llama.ts";
import type { LlamaSequence } from "./llama_sequence.ts";
import { type LayerTally, type SequenceUsage, usageOf } from "./usage.ts";

/** What a {@linkcode BatchDecoder} is made for. */
export interface BatchOptions {
  /** Sequences at once. */
  readonly batch: number;
  /** Tokens that a sequence can grow to, those admitted included. */
  readonly capacity: number;
  /** Element type of the KV cache; that of the sequences admitted. Default: the model's. */
  readonly cacheDType?: CacheDType;
}

/**
 * Why sequences of a method cannot be decoded by {@linkcode BatchDecoder}, in words; undefined where they can.
 *
 * @param pruner Dense where left out.
 */
export function batchUnsupportedReason(pruner: Pruner | undefined): string | undefined {
  if (pruner === undefined || pruner.layers.length === 0) return undefined;
  if (pruner.looksAhead !== "nothing") return `the method "${pruner.name}" looks ahead`;
  if (pruner.specs === undefined) return `the method "${pruner.name}" decides on the host, or is traced`;
  return undefined;
}

/** One layer of a batch. */
interface BatchLayer {
  readonly cache: BatchCache;
  readonly states: BatchStates | undefined;
  readonly decisions: BatchDecisions;
}

/**
 * Runs decode steps of a batch. Every kernel of a skipped token reads the decision on the device and leaves at once;
 * from the second step on, the whole step is one graph. `using` frees that, and the tensors of all slots, at once;
 * otherwise they are freed some time after nobody holds the decoder.
 */
export class BatchDecoder implements Disposable {
  readonly #llama: Llama;
  readonly #ops: Backend;
  readonly #pruner: Pruner | undefined;
  readonly #options: Required<BatchOptions>;
  readonly #layers: readonly BatchLayer[];
  readonly #keep: Tensor;
  readonly #ids: Tensor;
  readonly #positions: Tensor;
  readonly #scratch: { readonly [name: string]: Tensor };
  readonly #lengths: Int32Array<ArrayBuffer>;
  #steps = 0;
  #recorded: RecordedWork | undefined;
  #disposed = false;

  /**
   * Allocates caches and states; all slots are idle.
   *
   * @param pruner Takes its decisions on the device; without one all attention is computed.
   * @throws {RangeError} If a size is not a positive integer, or the method cannot decide on a device.
   */
  constructor(llama: Llama, pruner: Pruner | undefined, options: BatchOptions) {
    const { batch, capacity, cacheDType = llama.cacheDType } = options;
    if (!Number.isInteger(batch) || batch < 1 || !Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(
        `Cannot decode ${batch} sequences of ${capacity} tokens: expected positive integers`,
      );
    }
    const reason = batchUnsupportedReason(pruner);
    if (reason !== undefined) throw new RangeError(`Cannot decode a batch on a device: ${reason}`);
    this.#llama = llama;
    this.#ops = llama.backend;
    this.#pruner = pruner;
    this.#options = { batch, capacity, cacheDType };
    const { backend, config } = llama;
    const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize } = config;
    const f32 = (width: number) => backend.alloc("f32", [batch, width]);
    this.#keep = backend.alloc("u8", [numLayers, batch]);
    this.#layers = Array.from({ length: numLayers }, (_, layer) => this.#createLayer(layer));
    this.#ids = backend.alloc("i32", [batch]);
    this.#positions = backend.upload(hostTensor("i32", [batch], new Int32Array(batch).fill(-1)));
    this.#lengths = new Int32Array(batch).fill(-1);
    this.#scratch = {
      x: f32(hiddenSize),
      h: f32(hiddenSize),
      keys: f32(numKvHeads * headDim),
      unturned: f32(pruner?.keyState === "pre-rope" ? numKvHeads * headDim : 0),
      values: f32(numKvHeads * headDim),
      queries: f32(numHeads * headDim),
      attended: f32(numHeads * headDim),
      output: f32(hiddenSize),
      gate: f32(intermediateSize),
      up: f32(intermediateSize),
      hidden: f32(hiddenSize),
      logits: f32(vocabSize),
    };
  }

  /** Tokens of each sequence, -1 where the slot is idle. */
  get lengths(): Int32Array {
    return this.#lengths;
  }

  /**
   * What a sequence has cost and saved, where somebody counted its decisions from {@linkcode keep}. Memory allocated is a
   * slot's: it does not grow.
   *
   * @param tallies one a layer
   * @param tokens tokens of the sequence
   */
  usageOf(tallies: readonly LayerTally[], tokens: number): SequenceUsage {
    const { config } = this.#llama, { capacity, cacheDType } = this.#options;
    const rowBytes = LayerCache.rowBytes(cacheDType, config.numKvHeads * config.headDim);
    const allocatedBytes = config.numLayers * (capacity + (this.#pruner?.recent ?? 0)) * rowBytes;
    return usageOf(config, tallies, { rowBytes, allocatedBytes }, tokens);
  }

  /**
   * Takes a sequence over after its prefill; it is not to be fed any more.
   *
   * @param slot 0-based, idle
   * @param sequence of this model and this pruner, with this cache type
   * @throws {RangeError} If the slot is taken or not there, or the sequence is too long.
   */
  admit(slot: number, sequence: LlamaSequence): void {
    this.#expectOpen();
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
    const { caches, states } = sequence.carried;
    for (const [layer, { cache, states: own }] of this.#layers.entries()) {
      this.#admitCache(slot, cache, caches[layer]!.kept, caches[layer]!.near);
      const state = states?.[this.#pruner?.layers.indexOf(layer) ?? -1];
      if (own === undefined || state === undefined) continue;
      for (const name of ["anchorK", "anchorV", "numbers", "scores", "learned"] as const) {
        const dtype = own[name].dtype, values = state[name];
        if (values.length > 0) this.#writeRow(own[name], slot, dtype, values);
      }
    }
    this.#lengths[slot] = sequence.length;
    this.#writeRow(this.#positions, slot, "i32", Int32Array.of(sequence.length));
  }

  /** Begins a sequence of no tokens yet in a slot. @throws {RangeError} If the slot is taken or not there. */
  begin(slot: number): void {
    this.admit(slot, this.#llama.start(this.#pruner, { cacheDType: this.#options.cacheDType }));
  }

  /** Makes a slot idle. */
  release(slot: number): void {
    this.#expectOpen();
    this.#lengths[slot] = -1;
    this.#writeRow(this.#positions, slot, "i32", Int32Array.of(-1));
  }

  /**
   * Feeds one token to every sequence that is not idle.
   *
   * @param ids [batch]; those of idle slots are not looked at. Without ids the likeliest tokens of the last step are fed.
   * @returns logits [batch, vocabSize] f32, overwritten by the next step; rows of idle slots mean nothing
   * @throws {RangeError} If a sequence has reached the capacity, or there is no step whose tokens could be fed.
   */
  step(ids?: Int32Array<ArrayBuffer>): Tensor {
    this.#expectOpen();
    const { batch, capacity } = this.#options;
    if (this.#lengths.some((length) => length >= capacity)) {
      throw new RangeError(`Cannot feed a token: a sequence has reached the capacity of ${capacity} tokens`);
    }
    if (ids === undefined) {
      if (this.#steps === 0) {
        throw new RangeError("Cannot feed likeliest tokens: expected ids for the first step");
      }
      this.#ops.argmax(this.#scratch.logits!, this.#ids);
    } else {
      const known = ids.map((id, slot) => this.#lengths[slot]! < 0 ? 0 : id);
      this.#ops.write(this.#ids, hostTensor("i32", [batch], known));
    }
    // The first step runs as it is: a device loads kernels when they are first launched, which no recording allows.
    if (this.#steps === 0) this.#enqueue();
    else if (this.#ops.record === undefined) this.#enqueue();
    else (this.#recorded ??= this.#ops.record(() => this.#enqueue())).launch();
    this.#steps++;
    this.#lengths.forEach((length, slot) => length >= 0 && this.#lengths[slot]!++);
    return this.#scratch.logits!;
  }

  /** The decisions of the last step, [numLayers, batch]: 1 = computed. Waits for the device. */
  keep(): Uint8Array {
    this.#expectOpen();
    return this.#llama.backend.read(this.#keep).data as Uint8Array;
  }

  /**
   * Frees the recorded step, then caches, states and the logits that {@linkcode step} gave. What it is asked afterwards
   * throws an `Error`; once more does nothing.
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recorded?.[Symbol.dispose]();
    const ofLayers = this.#layers.flatMap(({ cache, states, decisions }) =>
      tensorsOfLayer(cache, states, decisions)
    );
    for (
      const tensor of [...ofLayers, this.#keep, this.#ids, this.#positions, ...Object.values(this.#scratch)]
    ) {
      this.#llama.backend.free(tensor);
    }
  }

  #expectOpen(): void {
    if (this.#disposed) throw new Error("Cannot use this batch decoder: it was disposed");
  }

  /** Everything that one step enqueues. */
  #enqueue(): void {
    const { backend, config, weights } = this.#llama;
    const ops = this.#ops, { x, hidden, logits } = this.#scratch as Record<string, Tensor>;
    backend.embedding(weights.embedding, this.#ids, x!);
    for (let layer = 0; layer < config.numLayers; layer++) {
      this.#attention(layer);
      this.#mlp(layer);
    }
    backend.rmsNorm(x!, weights.outputNorm, config.rmsNormEps, hidden!);
    ops.linear(hidden!, weights.output, logits!);
    ops.advance(this.#positions);
  }

  #attention(layer: number): void {
    const { backend, config, weights } = this.#llama;
    const ops = this.#ops, own = weights.layers[layer]!, { cache, states, decisions } = this.#layers[layer]!;
    const { x, h, keys, unturned, values, queries, attended, output } = this.#scratch as Record<
      string,
      Tensor
    >;
    const pruner = this.#pruner, positions = this.#positions;
    const turn = (rows: Tensor) => backend.rope(this.#heads(rows), positions, config.ropeTheta);
    backend.rmsNorm(x!, own.attnNorm, config.rmsNormEps, h!);
    ops.linear(h!, own.k, keys!);
    ops.linear(h!, own.v, values!);
    const before = states !== undefined && pruner?.keyState === "pre-rope";
    if (before) backend.storeRows(keys!, unturned!, 0);
    turn(keys!);
    const ahead = states !== undefined && pruner!.wantsQueries;
    if (ahead) {
      ops.linear(h!, own.q, queries!);
      turn(queries!);
    }
    ops.kvFilterStep(
      states,
      cache,
      {
        filterKeys: this.#heads(before ? unturned! : keys!),
        keys: this.#heads(keys!),
        values: this.#heads(values!),
        residual: x!,
        normed: h!,
        queries: ahead ? queries! : undefined,
        positions,
      },
      pruner?.cacheSkipped ?? false,
      decisions,
    );
    if (!ahead) {
      ops.linear(h!, own.q, queries!, decisions);
      ops.rope(this.#heads(queries!), positions, config.ropeTheta, decisions);
    }
    const scale = 1 / Math.sqrt(config.headDim);
    ops.attentionDecode(cache, this.#heads(queries!), positions, decisions, scale, this.#heads(attended!));
    ops.linear(attended!, own.o, output!, decisions);
    if (states !== undefined && pruner!.wantsOutputs) {
      ops.kvFilterObserveBatch(states, decisions, output!, x!);
    }
    ops.add(x!, output!, decisions);
  }

  #mlp(layer: number): void {
    const { backend, config, weights } = this.#llama;
    const ops = this.#ops, own = weights.layers[layer]!;
    const { x, h, gate, up, output } = this.#scratch as Record<string, Tensor>;
    backend.rmsNorm(x!, own.ffnNorm, config.rmsNormEps, h!);
    ops.linear(h!, own.gate, gate!);
    ops.linear(h!, own.up, up!);
    backend.swiglu(gate!, up!, gate!);
    ops.linear(gate!, own.down, output!);
    ops.add(x!, output!);
  }

  #heads(rows: Tensor): Tensor {
    const { headDim } = this.#llama.config;
    return { ...rows, shape: [rows.shape[0]!, rows.shape[1]! / headDim, headDim] };
  }

  #createLayer(layer: number): BatchLayer {
    const { numKvHeads, headDim } = this.#llama.config;
    const { batch, capacity, cacheDType: dtype } = this.#options;
    const { backend } = this.#llama;
    const recent = this.#pruner?.recent ?? 0, index = this.#pruner?.layers.indexOf(layer) ?? -1;
    return {
      cache: createBatchCache(backend, { batch, capacity, recent, numKvHeads, headDim, dtype }),
      states: index < 0 ? undefined : createBatchStates(backend, this.#pruner!.specs![index]!, batch),
      decisions: createBatchDecisions(backend, batch, this.#ops.row(this.#keep, layer)),
    };
  }

  #admitCache(slot: number, cache: BatchCache, kept: CachedRows, near: CachedRows): void {
    const ops = this.#ops, { capacity } = this.#options, recent = this.#pruner?.recent ?? 0;
    const wide = (tensor: Tensor, rows: number): Tensor => ({
      ...tensor,
      shape: [rows, tensor.shape.slice(-2).reduce((a, b) => a * b, 1)],
    });
    const copy = (from: Tensor, fromRow: number, to: Tensor, rows: number, toRow: number, count: number) =>
      ops.copyRows(from, fromRow, wide(to, this.#options.batch * rows), slot * rows + toRow, count);
    copy(kept.keys, 0, cache.keys, capacity, 0, kept.count);
    copy(kept.values, 0, cache.values, capacity, 0, kept.count);
    const positions = new Int32Array(capacity);
    positions.set(kept.positions.subarray(0, kept.count));
    this.#writeRow(cache.positions, slot, "i32", positions);
    this.#writeRow(cache.counts, slot, "i32", Int32Array.of(kept.count));
    if (recent === 0) return;
    const ring = new Int32Array(recent).fill(-1);
    for (let i = 0; i < near.count; i++) {
      const position = near.positions[i]!;
      copy(near.keys, i, cache.recentKeys, recent, position % recent, 1);
      copy(near.values, i, cache.recentValues, recent, position % recent, 1);
      ring[position % recent] = position;
    }
    this.#writeRow(cache.recentPositions, slot, "i32", ring);
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
    this.#ops.write(this.#ops.row(to, slot), hostTensor(dtype, shape, values));
  }
}
