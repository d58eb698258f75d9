/** Messages between the server's two threads: one answers HTTP, the other runs the model. */

/** The address to listen at, and the token that requests must have. */
export interface Address {
  readonly hostname: string;
  /** 0 = any that is free. */
  readonly port: number;
  /** Undefined: requests to this machine's own addresses need none. */
  readonly token: string | undefined;
  /** Names that clients ask for. */
  readonly models: readonly string[];
}

/** The state of the server, which the HTTP thread reports even while the model is busy. */
export interface ServerState {
  /** Texts that are being made. */
  readonly running: number;
  /** Requests that wait for their turn. */
  readonly waiting: number;
  /** Counts over all texts that have ended, by model. */
  readonly totals: { readonly [model: string]: { readonly [count: string]: number } };
}

export type CompletionKind = "text" | "chat";

/** Kinds of requests that the model's thread answers: for texts, and between texts and token ids. */
export type AskedKind = CompletionKind | "tokenize" | "detokenize";

export interface Asked {
  readonly kind: AskedKind;
  /** Parsed JSON. */
  readonly body: unknown;
  /** The port for the answer, which sends {@linkcode ToClient} and receives {@linkcode FromClient}. */
  readonly client: MessagePort;
}

export type ToHttp = { readonly listen: Address } | { readonly state: ServerState };
export type FromHttp =
  | { readonly listens: { readonly hostname: string; readonly port: number } }
  | { readonly failed: string }
  | { readonly deaf: string }
  | { readonly asked: Asked };

/** Why a request has no answer, as OpenAI's clients read it. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
  /** The field that is wrong. */
  readonly param?: string | null;
}

/** A request that is not answered as asked. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly refusal: Refusal;

  /** @param message the fault and its fix @param param the wrong field */
  constructor(message: string, param: string | null = null, status = 400) {
    super(message);
    this.refusal = { status, message, param };
  }
}

/** An answer: refused, or begun with its type, then its parts, until it ends or breaks off. */
export type ToClient =
  | { readonly refused: Refusal }
  | { readonly begins: string }
  | { readonly part: string }
  | { readonly ends: "whole" | "broken" };

/** A part was read; or no process reads any more. */
export type FromClient = "read" | "left";
