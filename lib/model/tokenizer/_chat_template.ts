/**
 * Renders a chat template within bounds: it may come from an untrusted file, and its language has loops. Each
 * expression costs a step, and so does each part of its value: the same templates are refused on every machine.
 */
import { Environment, Interpreter, parse, Template, tokenize } from "@huggingface/jinja";

/** Characters of a template: the longest published ones have about 50,000. */
const MOST_SOURCE = 2 ** 18;

/** Steps of a template, plus steps per part of the messages: templates visit each about ten times. */
const STEPS = 200_000, STEPS_A_PART = 100;

/** Characters of a text that count as one part. */
const CHARS_A_PART = 64;

/** Characters that a template may write, plus characters per character of the messages. */
const MOST_TEXT = 2 ** 18, TEXT_A_CHAR = 8;

/** Filters and methods that write one text for each part of another. */
const REPEATING = ["replace", "join", "indent", "tojson"];

type Node = Parameters<Interpreter["evaluate"]>[0];
type Value = ReturnType<Interpreter["evaluate"]>;

/** How many parts a value has in addition to itself, counted until they are more than `most`. */
function countParts(value: Value, most: number): number {
  const open: unknown[] = [value];
  let count = -1;
  while (open.length > 0 && count <= most) {
    const inner = (open.pop() as { readonly value?: unknown } | undefined)?.value;
    count++;
    if (typeof inner === "string") count += inner.length / CHARS_A_PART;
    if (!(Array.isArray(inner) || inner instanceof Map)) continue;
    if ((inner instanceof Map ? inner.size : inner.length) > most) return Infinity;
    for (const part of inner.values()) open.push(part);
  }
  return count;
}

/** Whether a node looks up a part of its operand, or asks for its length: frequent operations that copy nothing. */
function isLookup(node: Node): boolean {
  const { type, filter } = (node ?? {}) as {
    readonly type?: string;
    readonly filter?: { readonly value?: string };
  };
  return type === "MemberExpression" || type === "TestExpression" ||
    type === "FilterExpression" && ["length", "first", "last"].includes(filter?.value ?? "");
}

/** Whether a node calls one of {@linkcode REPEATING}; a method that an expression names may be any. */
function isRepeating(node: Node): boolean {
  interface Call {
    readonly callee?: { readonly value?: string; readonly property?: { readonly value?: string } };
  }
  const { filter, call, callee } = (node ?? {}) as Call & { readonly filter?: Call; readonly call?: Call };
  const method = (call?.callee ?? callee)?.property;
  return REPEATING.includes(filter?.callee?.value ?? (method && (method.value ?? REPEATING[0]!)) ?? "");
}

class BoundedInterpreter extends Interpreter {
  #parent: Node;
  /** Parts of the largest operand so far of the repeating call that is being evaluated. */
  #call: { largest: number } | undefined;
  private stepsLeft: number;

  constructor(environment: Environment, stepsLeft: number) {
    super(environment);
    this.stepsLeft = stepsLeft;
  }

  override evaluate(node: Node, environment: Environment): Value {
    const parent = this.#parent, call = this.#call;
    this.#spend(1);
    this.#parent = node;
    if (node?.type !== "MemberExpression") this.#call = isRepeating(node) ? { largest: 0 } : undefined;
    let value: Value;
    try {
      value = super.evaluate(node, environment);
    } finally {
      this.#parent = parent;
      this.#call = call;
    }
    const isFree = isLookup(parent);
    const parts = isFree && value?.type !== "StringValue" ? 0 : countParts(value, this.stepsLeft);
    if (!isFree) this.#spend(parts);
    if (call !== undefined) {
      const size = value?.type === "IntegerValue" ? Math.abs(Number(value.value)) / CHARS_A_PART : parts;
      this.#spend(4 * size * call.largest);
      call.largest = Math.max(call.largest, size);
    }
    return value;
  }

  #spend(steps: number): void {
    this.stepsLeft -= steps;
    if (!(this.stepsLeft >= 0)) throw new Error("found more steps than such messages need, expected fewer");
  }
}

/** As Python's, and no longer than a template may have steps. */
function range(first: number, end?: number, step = 1): number[] {
  const [start, stop] = end === undefined ? [0, first] : [first, end];
  if (step === 0) throw new Error("range() step must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= STEPS)) throw new Error(`found a range of ${length} numbers, expected at most ${STEPS}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/** Names that every template may use, as in `Template.render()`. */
const GLOBALS = {
  ...{ true: true, True: true, false: false, False: false, none: null, None: null },
  range,
  raise_exception(text: string) {
    throw new Error(text);
  },
  strftime_now: (format: string) => new Template("{{ strftime_now(format) }}").render({ format }),
};

/**
 * The text that a template makes of values, of which `messages` has the messages, and `tools` descriptions of tools.
 *
 * @throws {Error} If the template is broken, refuses the messages, or takes more than they need.
 */
export function renderTemplate(
  source: string,
  values: { readonly messages: unknown; readonly tools?: unknown; readonly [name: string]: unknown },
): string {
  if (source.length > MOST_SOURCE) {
    throw new Error(`found ${source.length} characters of it, expected at most ${MOST_SOURCE}`);
  }
  const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...GLOBALS, ...values })) environment.set(name, value);
  const given = ["messages", ...values.tools === undefined ? [] : ["tools"]];
  const parts = given.reduce((sum, name) => sum + countParts(environment.lookupVariable(name), Infinity), 0);
  const steps = STEPS + STEPS_A_PART * parts;
  const text = String(new BoundedInterpreter(environment, steps).run(program).value);
  const most = MOST_TEXT + TEXT_A_CHAR * JSON.stringify([values.messages, values.tools]).length;
  if (text.length > most) {
    throw new Error(`found a text of ${text.length} characters, expected at most ${most}`);
  }
  return text;
}
