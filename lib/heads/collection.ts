/**
 * Head statistics of a model on a text, in the dense stream: which heads are similar to the past, and whether a rule's
 * scores find the tokens whose attention does little.
 */
import type { Environment } from "../environment.ts";
import { policyOf } from "../filter/threshold.ts";
import { learned, type LearnedSpec, nameFeatures } from "../methods/rules/learned.ts";
import { RULES } from "../methods/list.ts";
import type { AnyRule } from "../methods/protocol/method.ts";
import {
  readsOf,
  recordOptions,
  type ResolvedOptions,
  type TokenFilterOptions,
} from "../methods/bind/options.ts";
import { TokenFilter } from "../methods/bind/token_filter.ts";
import type { Model } from "../model/model.ts";
import { type BootstrapOptions, drawMovingBlocks } from "../stats/bootstrap.ts";
import type { HeadOptions, HeadReport } from "./report.ts";
import { cutChunks, yieldToEventLoop } from "../eval/chunks/chunks.ts";
import { LayerColumns, listViews, packChunk, unpackChunk } from "./columns.ts";
import { createProbe } from "./probe.ts";
import {
  averageRules,
  compareRules,
  cutBands,
  type DescribedLayer,
  describeLayer,
  type HeadLayout,
  withIntervals,
} from "./summary.ts";
import { chooseExcerpt, chooseSample, headTrace, tokenColumns } from "./tokens.ts";
import type { DecisionTable } from "./trace.ts";

export interface HeadCollectionOptions {
  /** The method whose decisions are shown; its layers are those that are measured. */
  readonly filter?: TokenFilterOptions;
  /** Tokens per chunk, default 512. */
  readonly context?: number;
  /** How intervals are made. Defaults: blocks of 64 tokens, 1000 resamples, 95%, seed 0. */
  readonly bootstrap?: BootstrapOptions;
}

/** @internal How the work may be watched and stopped. */
export interface HeadControl {
  /** Stops between two chunks or layers; the signal's reason is then thrown. */
  readonly signal?: AbortSignal;
  /** Called as the work proceeds, with the finished fraction of this call's work in [0, 1]. */
  readonly onProgress?: (fraction: number, label: string) => void;
}

/** @internal Where measured chunks go as they end, and where finished ones are found. */
export interface ChunkStore {
  /** The stored bytes of a chunk for the same model, text and options; undefined if there are none. */
  read(chunk: number): Uint8Array | undefined;
  write(chunk: number, bytes: Uint8Array<ArrayBuffer>): void | Promise<void>;
}

/** Tokens past the warm-up that a ranking needs at the least. */
const LEAST_DECIDED = 8;

/**
 * Runs the full model over a text once and describes the filter's input. Every chunk of `context` tokens is a sequence
 * of its own, as for perplexity. All views (pre- and post-rope keys x `ema` and `mean` anchors) are measured side by
 * side.
 *
 * Decisions are taken but not carried out. The `learned` rule is fitted as it would be in use, on the tokens that it
 * would keep. Their features and outcomes are those in the dense stream.
 *
 * @example
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { HeadCollection } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode(await readBuiltinText()).slice(0, 64);
 * const heads = new HeadCollection(model, ids, { context: 32, filter: { tail: 0.1, pruneRatio: 0.05, warmup: 8 } });
 * await heads.run();
 * console.assert(heads.layers.join() === "9" && heads.decisions().rows === 64);
 * ```
 */
export class HeadCollection {
  /** The chunks, each [context]. */
  readonly chunks: readonly Int32Array<ArrayBuffer>[];
  /** Tokens per chunk. */
  readonly context: number;
  /** The method's options, defaults filled in. */
  readonly options: ResolvedOptions;
  /** How intervals are made. */
  readonly bootstrap: HeadOptions["bootstrap"];
  readonly #model: Model;
  readonly #columns: readonly LayerColumns[];
  #open: number[];
  #store: ChunkStore | undefined;

  /**
   * Cuts the text and checks the options; nothing is computed yet.
   *
   * @param ids Token ids of the whole text, [N], BOS at the front where the tokenizer adds one.
   * @throws {TypeError} If an option is of the wrong type.
   * @throws {RangeError} If the text or the context is too short, or an option is out of range. The warm-up must be at
   * least 8 because `learned` is measured next to the other rules. `absorb` must be `all` because no token is skipped.
   */
  constructor(model: Model, ids: Int32Array, options: HeadCollectionOptions = {}) {
    const { config } = model;
    this.#model = model;
    const filter = new TokenFilter(config, options.filter);
    this.options = filter.options;
    this.context = options.context ?? 512;
    this.bootstrap = { blockSize: 64, resamples: 1000, confidence: 0.95, seed: 0, ...options.bootstrap };
    const { warmup, absorb } = this.options;
    if (absorb !== "all") {
      throw new RangeError(
        `Cannot use option "absorb": found "${absorb}", expected "all", since no token is skipped`,
      );
    }
    const view = { keyState: this.options.keyState, anchor: this.options.anchor };
    const shadows = RULES.filter((rule) => !isOfMoments(rule, this.options)).map((rule) => ({
      rule: rule.name,
      views: listViews(view).map((other) =>
        new TokenFilter(config, {
          ...this.options,
          ...other,
          fusion: rule.name,
          invert: false,
          threshold: fitPolicy(rule, this.options),
        }).specs
      ),
    }));
    if (filter.specs.length === 0) {
      throw new RangeError(
        'Cannot use option "skipRatios": found 0 for every layer, expected a layer to measure',
      );
    }
    this.chunks = cutChunks(ids, this.context);
    const least = warmup + LEAST_DECIDED;
    if (this.context < least) {
      const expected = `expected at least ${least}, since the first ${warmup} are the warm-up`;
      throw new RangeError(`Cannot rank tokens in chunks of ${this.context}: ${expected}`);
    }
    const count = this.chunks.length;
    this.#open = [...this.chunks.keys()];
    this.#columns = filter.specs.map((method, i) =>
      new LayerColumns(
        {
          method,
          view,
          shadows: new Map(shadows.map(({ rule, views }) => [rule, views.map((specs) => specs[i]!)])),
        },
        count,
        count * this.context,
      )
    );
  }

  /** 0-based indices of the measured layers, ascending. */
  get layers(): readonly number[] {
    return this.#columns.map(({ plan }) => plan.method.layer);
  }

  /**
   * Takes over the chunks that a store holds; those that are run from now on are kept there as they end.
   *
   * @returns Chunks that need not be run.
   * @throws {RangeError} If a chunk was measured under other options.
   */
  resume(store: ChunkStore): number {
    const count = this.chunks.length;
    this.#store = store;
    this.#open = this.#open.filter((chunk) => {
      const bytes = store.read(chunk);
      if (bytes !== undefined) unpackChunk(this.#columns, chunk, count, bytes);
      return bytes === undefined;
    });
    return count - this.#open.length;
  }

  /**
   * Runs the full model over all chunks that are not measured yet.
   *
   * @throws The signal's reason, if it is aborted between two chunks.
   */
  async run({ signal, onProgress }: HeadControl = {}): Promise<void> {
    const { backend } = this.#model, count = this.chunks.length, work = this.#open.length;
    const ofLayer = new Map(this.#columns.map((columns) => [columns.plan.method.layer, columns]));
    const { method, shadows } = this.#columns[0]!.plan;
    let first = 0;
    const probe = createProbe(backend, {
      layers: this.layers,
      turnsOf: (layer) => this.#model.turnsOf(layer),
      wantsQueries: [method, ...[...shadows.values()].flat()].some(({ reads }) => reads.includes("queries")),
      whole: policyOf(method).whole === true,
      onRows: (rows) => ofLayer.get(rows.layer)!.take(backend, rows, first + rows.start),
    });
    while (this.#open.length > 0) {
      const chunk = this.#open[0]!;
      await yieldToEventLoop();
      signal?.throwIfAborted();
      first = chunk * this.context;
      this.#columns.forEach((columns) => columns.restart(chunk));
      const sequence = this.#model.start(probe, { chunk });
      backend.free(sequence.feed(this.chunks[chunk]!));
      sequence.free();
      this.#columns.forEach((columns) => columns.end());
      await this.#store?.write(chunk, packChunk(this.#columns, chunk, count));
      this.#open.shift();
      const left = this.#open.length;
      onProgress?.(1 - left / work, `${count - left}/${count} chunks`);
    }
  }

  /** Every decision with the numbers behind it: a row for each layer and token. */
  decisions(): DecisionTable {
    this.#expectDone();
    return headTrace(this.#columns, this.chunks);
  }

  /**
   * Makes the report of the measurements.
   *
   * @param texts Texts of consecutive token ids, one each.
   * @throws The signal's reason, if it is aborted between two layers.
   */
  async report(
    environment: Environment,
    method: HeadOptions["method"],
    texts: (ids: Int32Array<ArrayBuffer>) => readonly string[],
    { signal, onProgress }: HeadControl = {},
  ): Promise<HeadReport> {
    this.#expectDone();
    const { warmup } = this.options, { context } = this;
    const { numLayers, numHeads, numKvHeads, headDim, hiddenSize } = this.#model.config;
    const first = Math.max(warmup, 1), count = this.chunks.length;
    const layout: HeadLayout = {
      tokens: count * context,
      context,
      bands: cutBands(warmup, context),
      decided: Int32Array.from(
        { length: count * (context - first) },
        (_, i) => Math.floor(i / (context - first)) * context + first + i % (context - first),
      ),
      blocks: drawMovingBlocks(this.chunks.map(() => context - first), this.bootstrap),
      confidence: this.bootstrap.confidence,
    };
    const described: DescribedLayer[] = [];
    for (const columns of this.#columns) {
      await yieldToEventLoop();
      signal?.throwIfAborted();
      const done = described.push(describeLayer(columns, layout));
      onProgress?.(done / this.#columns.length, `${done}/${this.#columns.length} layers`);
    }
    const all = averageRules(described.map(({ rated }) => rated));
    const excerpt = chooseExcerpt(context, warmup, this.#columns.length);
    return {
      format: 1,
      environment,
      shape: { numLayers, numHeads, numKvHeads, headDim, hiddenSize },
      options: { method, warmup, seed: recordOptions(this.options).seed, bootstrap: this.bootstrap },
      bands: layout.bands,
      views: listViews(this.#columns[0]!.plan.view).map((view, i) => ({
        ...view,
        layers: described.map(({ views }) => views[i]!),
      })),
      layers: described.map(({ main }) => main),
      overall: {
        rules: withIntervals(all, this.bootstrap.confidence),
        comparisons: compareRules(all, this.bootstrap.confidence),
      },
      learnedFeatures: nameFeatures(this.#columns[0]!.plan.shadows.get(learned.name)![0] as LearnedSpec),
      sample: tokenColumns(
        this.#columns,
        chooseSample(layout.tokens, context, this.#columns.length),
        context,
      ),
      excerpt: {
        texts: texts(Int32Array.from(excerpt, (token) => this.chunks[0]![token]!)),
        firstToken: excerpt[0]!,
        columns: tokenColumns(this.#columns, excerpt, context),
      },
    };
  }

  #expectDone(): void {
    if (this.#open.length > 0) {
      throw new RangeError("Cannot describe heads: found chunks not yet measured, expected run() first");
    }
  }
}

/** Whether a rule's scores follow from only the moments; the others' recurrence must run next to. */
function isOfMoments(rule: AnyRule, options: ResolvedOptions): boolean {
  return rule.memory === undefined && readsOf(rule, options).every((what) => what === "similarity");
}

/** The policy asked for, or one that the rule takes. */
function fitPolicy({ narrows }: AnyRule, { threshold }: ResolvedOptions): ResolvedOptions["threshold"] {
  const taken = narrows?.["threshold"] as { readonly names: readonly (typeof threshold)[] } | undefined;
  return taken === undefined || taken.names.includes(threshold) ? threshold : taken.names[0]!;
}
