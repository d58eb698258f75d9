/** What the page and its workers say to each other. */

/** A model that runs in a worker. */
export interface Opened {
  readonly kind: "opened";
  readonly name: string;
  /** The backend's own line. */
  readonly backend: string;
  readonly layers: number;
  readonly kvHeads: number;
  readonly milliseconds: number;
  /** Names and help of the methods for keys, and for the attention of tokens. */
  readonly methods: {
    readonly [side in "key" | "query"]: readonly (readonly [name: string, help: string])[];
  };
}

/** Settings of a run. */
export interface Asked {
  readonly text: string;
  readonly method: string;
  readonly side: "key" | "query" | "both";
  readonly whole: "none" | "auto" | "heads";
  readonly ratio: number;
}

/** What a cache holds: the data of the map and of the words. */
export interface Grid {
  readonly tokens: readonly string[];
  readonly layers: number;
  readonly kvHeads: number;
  /** Fraction of each token that a head has, [layers, kvHeads, tokens]; 0: its key and value, or its attention, are gone. */
  readonly held: Float32Array;
  /** Heads that are whole by an option, [layers, kvHeads]. */
  readonly whole: Uint8Array;
  /** Loss of each token minus that of the full model, [tokens], 0 for the first. */
  readonly added?: Float32Array;
  /** Tokens that are marked, [from, to). */
  readonly marked?: readonly [from: number, to: number];
}

/** The result of a run. */
export interface Ran extends Grid {
  readonly kind: "ran";
  readonly asked: Asked;
  /** Mean loss in nats, of the full model and with the method. */
  readonly losses: readonly [full: number, own: number];
  /** Fraction of the full model's cache, and of its operations of attention. */
  readonly cache: number;
  readonly work: number;
  /** Tokens of the text that were not read. */
  readonly cut: number;
  /** Tokens of each window of the method. */
  readonly span: number;
  /** Whether heads are whole of a model that does not copy. */
  readonly isGuess: boolean;
}

/** What a worker answers; a refusal is one line, and `isOver` says that nothing more runs in this worker. */
export type Answered =
  | Opened
  | Ran
  | { readonly kind: "refused"; readonly message: string; readonly isOver: boolean };
export type Request =
  | { readonly kind: "open"; readonly name: string; readonly model: ArrayBuffer; readonly wasm: ArrayBuffer }
  | { readonly kind: "run"; readonly asked: Asked };
