/** Fields of a request: each is read once, and what nobody reads is refused by its name. */
import { RefusedError } from "./messages.ts";

const isEmptyList = (x: unknown) => Array.isArray(x) && x.length === 0;

/** Fields without an effect here, each with a test whether its value asks for nothing. */
const NEUTRAL: { readonly [field: string]: (value: unknown) => boolean } = {
  frequency_penalty: (x) => x === 0,
  presence_penalty: (x) => x === 0,
  logit_bias: (x) => typeof x === "object" && Object.keys(x!).length === 0,
  best_of: (x) => x === 1,
  suffix: (x) => x === "",
  tools: isEmptyList,
  functions: isEmptyList,
  // Without tools, these fields have nothing to choose from.
  tool_choice: (x) => x === "none" || x === "auto",
  function_call: (x) => x === "none" || x === "auto",
  parallel_tool_calls: (x) => typeof x === "boolean",
  modalities: (x) => JSON.stringify(x) === '["text"]',
  service_tier: (x) => x === "auto" || x === "default",
  user: () => true,
  safety_identifier: () => true,
  prompt_cache_key: () => true,
  metadata: () => true,
  store: (x) => x === false,
};

export type Body = { readonly [field: string]: unknown };

export const wrong = (param: string, value: unknown, expected: string) =>
  new RefusedError(
    `Cannot use "${param}": found ${JSON.stringify(value)?.slice(0, 80)}, expected ${expected}`,
    param,
  );

/** Reads fields of a body, and keeps track of unread ones. */
export class Fields {
  readonly #body: Body;
  readonly #left: Set<string>;

  /** @throws {RefusedError} If the body is no object. */
  constructor(body: unknown) {
    if (typeof body !== "object" || body === null || Array.isArray(body)) {
      throw new RefusedError("Cannot read the request: expected a JSON object");
    }
    this.#body = body as Body;
    this.#left = new Set(
      Object.keys(body).filter((name) => this.#body[name] !== null && this.#body[name] !== undefined),
    );
  }

  read(name: string): unknown {
    const value = this.#left.has(name) ? this.#body[name] : undefined;
    this.#left.delete(name);
    return value;
  }

  number(name: string): number | undefined {
    const value = this.read(name);
    if (value === undefined || typeof value === "number") return value;
    throw wrong(name, value, "a number");
  }

  integer(name: string, least: number, most: number): number | undefined {
    const value = this.number(name);
    if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return value;
    throw wrong(name, value, `an integer from ${least} to ${most}`);
  }

  flag(name: string, otherwise = false): boolean {
    const value = this.read(name) ?? otherwise;
    if (typeof value === "boolean") return value;
    throw wrong(name, value, "true or false");
  }

  /** @throws {RefusedError} If an unread field asks for something that this server does not have. */
  end(): void {
    for (const name of this.#left) {
      if (Object.hasOwn(NEUTRAL, name) && NEUTRAL[name]!(this.#body[name])) continue;
      throw new RefusedError(`Cannot use "${name}": this server does not have it`, name);
    }
  }
}
