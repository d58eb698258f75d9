/** The interface of a rule: it gives a token its score in a layer. The recurrence depends on no rule by name. */
import type { HeadParts } from "./option.ts";
import type { FilterOptions } from "./options.ts";
import type { Moments } from "./similarity.ts";

/**
 * Inputs of a rule. They are the similarities' moments, rows of the token itself, and the outcomes of kept tokens, for
 * a rule with a memory. Only the key side also has the attention that the token received, and the change of outputs
 * without it.
 */
export type Reads =
  | "similarity"
  | "key"
  | "value"
  | "residual"
  | "normed"
  | "queries"
  | "outputs"
  | "attention"
  | "change";

/** @internal Ids of the tokens of rows, and the text that each adds. */
export interface TokenIds {
  /** One for each row. */
  readonly ids: Int32Array;
  /** Left out where the tokenizer is not known. */
  readonly textOf?: ((id: number) => string) | undefined;
}

/** @internal One token in one layer, before its attention. Rows are copies; of keys and values [numKvHeads * headDim]. */
export interface RuleToken extends Readonly<Moments> {
  readonly layer: number;
  /** 0-based index of the sequence in a text that is scored in chunks. */
  readonly chunk: number;
  /** Index of the token in its sequence. The moments are NaN for the first one. */
  readonly position: number;
  /** Its id in the vocabulary. */
  readonly id: number;
  /** The text that it adds, spaces included; the replacement character where it is a part of a character. */
  readonly text: string;
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** Residual stream before the attention block, [hiddenSize]. */
  readonly residual: Float32Array;
  /** Attention's input after its RMSNorm, likewise. */
  readonly normed: Float32Array;
  /** Queries, [numHeads * headDim]. */
  readonly queries: Float32Array;
  /**
   * On the key side: mean over the computed queries after the token, until it is decided, of the mean over heads of the
   * probability that they gave it; 0 where there were none.
   */
  readonly attention: number;
  /** The same of the queries that are more than half a recent window after it; {@linkcode attention} where none was. */
  readonly distant: number;
  /**
   * Where asked for, over the queries of {@linkcode distant}: the root mean square change of the block's output without
   * the token. The squared change is summed over heads, each weighted by the mean square of its output projection.
   */
  readonly change: number;
}

/** A rule with a memory at work on one layer of one sequence, for one run of tokens. */
interface Scorer {
  /** Takes in the next token. @returns Its score before `invert`; NaN = none: the token is kept. */
  score(token: RuleToken): number;
  /** Observes the decision about the token scored last. */
  settle?(skip: boolean): void;
  close?(): void;
}

/** A rule's state for one layer of one sequence besides anchors and thresholds: `LayerState.learned`. */
interface RuleMemory {
  /** Numbers; they do not grow with the sequence. */
  size(spec: LayerSpec): number;
  /** Tokens that may be decided before the outcomes of the kept ones are due; default: all. @throws {RangeError} If none. */
  room?(spec: LayerSpec, state: LayerState): number;
  open(spec: LayerSpec, state: LayerState): Scorer;
  readonly observe?: FilterObserve;
}

/** A rule: a function of a token, or something that remembers; it finds values of its own options in the spec. */
export type Rule<Own = never> =
  & {
    readonly name: string;
    /** Its number in the C ABI. Without one the recurrence runs in TypeScript on the host, whatever the backend. */
    readonly native?: number;
    /** Weight of the key side, to be recorded. */
    keyWeight?(token: RuleToken, options: LayerSpec & Own): number;
  }
  & ({
    /** The score before `invert`: high = redundant, skip; NaN = none: the token is kept, and no threshold looks at it. */
    score(token: RuleToken, options: LayerSpec & Own): number;
    readonly memory?: undefined;
  } | { readonly score?: undefined; readonly memory: RuleMemory });

/** The sizes of a model that the filter needs. All are whole numbers, at least 1. */
export interface FilterShape {
  /** Layers. */
  readonly numLayers: number;
  /** Query heads. */
  readonly numHeads: number;
  /** Heads of keys and values, H. */
  readonly numKvHeads: number;
  /** Head dimension, d. */
  readonly headDim: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Over how many positions a layer's attention reaches back, one entry per layer. Default: over all. */
  readonly layers?: readonly { readonly window?: number }[];
  /**
   * How much attention output depends on distant tokens, for `whole`. For "auto" it has one score per layer,
   * [numLayers]; for "heads" one per KV head, [numLayers * numKvHeads].
   */
  readonly retrieval?: readonly number[];
}

/** @internal Everything that decides one layer: its rule, and the options of the recurrence, each with its value. */
export interface LayerSpec extends FilterOptions, Omit<FilterShape, "numLayers" | "layers"> {
  readonly layer: number;
  /** Requested ratio of this layer's tokens to skip after warm-up, rho in [0, 1]. */
  readonly skipRatio: number;
  /** Key side: its KV heads, where some of them keep every key and value. */
  readonly headParts?: HeadParts;
  readonly chunk: number;
  /** The rule that gives a token its score. Its own options are further properties of the spec. */
  readonly rule: Rule;
  /** Inputs that the rule reads under these options. */
  readonly reads: readonly Reads[];
}

/** @internal State of one filtered layer of one sequence. */
export interface LayerState {
  /** Running averages of the keys, [H, d]; zeros before the first absorbed token. */
  readonly anchorK: Float32Array<ArrayBuffer>;
  /** Running averages of the values, [H, d]. */
  readonly anchorV: Float32Array<ArrayBuffer>;
  /** Counters, see `SLOT`. */
  readonly numbers: Float64Array<ArrayBuffer>;
  /** Ring of recent scores: score number i lies at i % length. Its length is the policy's history. */
  readonly scores: Float64Array<ArrayBuffer>;
  /** State of the rule itself, in the rule's own layout; empty where it has no memory. */
  readonly learned: Float64Array<ArrayBuffer>;
}

/**
 * @internal A rule that learns: takes in the outcomes y = ln((norm(o)+1e-6)/(norm(x)+1e-6)) of the pending block's kept
 * tokens that were not yet observed, in order. A complete block enters the fit.
 */
export type FilterObserve = (spec: LayerSpec, state: LayerState, y: Float64Array<ArrayBuffer>) => void;

export interface TokenRows {
  readonly data: Float32Array;
  readonly width: number;
}

/** A token whose rows are there when a rule asks for them. */
export class RowToken implements RuleToken {
  declare readonly key: Float32Array;
  declare readonly value: Float32Array;
  declare readonly residual: Float32Array;
  declare readonly normed: Float32Array;
  declare readonly queries: Float32Array;
  declare readonly id: number;
  declare readonly text: string;
  readonly layer: number;
  readonly chunk: number;
  muK = NaN;
  varK = NaN;
  muV = NaN;
  varV = NaN;
  attention = NaN;
  distant = NaN;
  change = NaN;
  readonly #found: { [name: string]: Float32Array } = {};
  readonly position: number;
  private readonly rows: { readonly [name: string]: TokenRows | undefined };
  private readonly row: number;
  private readonly tokens: TokenIds | undefined;

  constructor(
    { layer, chunk }: Pick<RuleToken, "layer" | "chunk">,
    position: number,
    rows: { readonly [name: string]: TokenRows | undefined } = {},
    row = 0,
    tokens?: TokenIds,
  ) {
    this.tokens = tokens;
    this.position = position;
    this.rows = rows;
    this.row = row;
    this.layer = layer;
    this.chunk = chunk;
  }

  #find(name: Reads): Float32Array {
    const rows = this.rows[name];
    if (rows === undefined) {
      throw new TypeError(`Cannot score a token by its "${name}": expected a rule whose reads() has it`);
    }
    const { data, width } = rows;
    return this.#found[name] ??= data.slice(this.row * width, (this.row + 1) * width);
  }

  #identify(name: "id" | "text"): number | string {
    const { ids, textOf } = this.tokens ?? {}, id = ids?.[this.row];
    const found = name === "id" || id === undefined ? id : textOf?.(id);
    if (found !== undefined) return found;
    throw new TypeError(
      `Cannot score a token by its "${name}": found rows alone, expected a model's run over a text`,
    );
  }

  /** Looks all rows up now: those of the model change. */
  hold(): void {
    for (const name of Object.keys(this.rows)) this.#find(name as Reads);
  }

  static {
    for (const name of ["id", "text"] as const) {
      Object.defineProperty(this.prototype, name, {
        get(this: RowToken) {
          return this.#identify(name);
        },
      });
    }
    for (const name of ["key", "value", "residual", "normed", "queries"] as const) {
      Object.defineProperty(this.prototype, name, {
        get(this: RowToken) {
          return this.#find(name);
        },
      });
    }
  }
}
