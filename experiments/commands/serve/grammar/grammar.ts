/**
 * Grammars of bytes, by derivatives: what remains of a grammar behind a byte is a grammar again. Equal ones are one object,
 * so that steps are looked up once they were made: only those are made that a text comes to.
 */

/** A grammar, or what remains of one. */
export interface Grammar {
  /** Its number in its {@linkcode GrammarMaker}. */
  readonly id: number;
  /** Whether a text may end here. */
  readonly mayEnd: boolean;
  /** What remains behind a byte; undefined where it cannot come. */
  step(byte: number): Grammar | undefined;
}

/** Most grammars that one maker makes: a schema whose texts have more states is refused. */
const MOST_GRAMMARS = 200_000;

/** The states of a grammar are more than a server keeps. */
export class GrammarTooLarge extends Error {}

type Derive = (byte: number) => Grammar | undefined;

/** Makes grammars, each once. */
export class GrammarMaker {
  readonly #known = new Map<string, Grammar>();
  /** The text of no bytes. */
  readonly empty: Grammar = this.#make("", true, () => undefined);

  #make(key: string, mayEnd: boolean, derive: Derive): Grammar {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= MOST_GRAMMARS) {
      throw new GrammarTooLarge(`found more than ${MOST_GRAMMARS} states`);
    }
    const steps: (Grammar | null)[] = [];
    const made: Grammar = {
      id: this.#known.size,
      mayEnd,
      step: (byte) =>
        (steps[byte] === undefined ? steps[byte] = derive(byte) ?? null : steps[byte]) ?? undefined,
    };
    this.#known.set(key, made);
    return made;
  }

  /** One byte of some ranges, as `0-9a-f` or single characters; codes beyond 127 as `\x80-\xbf`. */
  oneOf(ranges: string): Grammar {
    const allowed = new Uint8Array(256), chars = [...ranges];
    for (let i = 0; i < chars.length; i++) {
      const first = chars[i]!.codePointAt(0)!, isRange = chars[i + 1] === "-" && i + 2 < chars.length;
      allowed.fill(1, first, (isRange ? chars[i += 2]!.codePointAt(0)! : first) + 1);
    }
    return this.#make(`o${allowed.join("")}`, false, (byte) => allowed[byte] === 1 ? this.empty : undefined);
  }

  /** A text as it is, in UTF-8. */
  text(text: string): Grammar {
    return new TextEncoder().encode(text).reduceRight((rest, byte) => {
      const one = this.#make(`b${byte}`, false, (found) => found === byte ? this.empty : undefined);
      return this.join(one, rest);
    }, this.empty);
  }

  /** Grammars one after the other. */
  join(...parts: readonly Grammar[]): Grammar {
    return parts.reduceRight((rest, part) => this.#pair(part, rest), this.empty);
  }

  #pair(first: Grammar, rest: Grammar): Grammar {
    if (first === this.empty) return rest;
    if (rest === this.empty) return first;
    return this.#make(`j${first.id},${rest.id}`, first.mayEnd && rest.mayEnd, (byte) => {
      const left = first.step(byte), joined = left && this.#pair(left, rest);
      return this.#either(joined, first.mayEnd ? rest.step(byte) : undefined);
    });
  }

  #either(a: Grammar | undefined, b: Grammar | undefined): Grammar | undefined {
    return a === undefined ? b : b === undefined ? a : this.any(a, b);
  }

  /** Any of some grammars. */
  any(...choices: readonly Grammar[]): Grammar {
    const all = new Map(
      choices.flatMap((choice) => this.#choices.get(choice) ?? [choice]).map((one) => [one.id, one]),
    );
    const list = [...all.values()].sort((a, b) => a.id - b.id), [only] = list;
    if (list.length === 1) return only!;
    const made = this.#make(`a${list.map(({ id }) => id)}`, list.some(({ mayEnd }) => mayEnd), (byte) => {
      const left = list.flatMap((choice) => choice.step(byte) ?? []);
      return left.length === 0 ? undefined : this.any(...left);
    });
    this.#choices.set(made, list);
    return made;
  }

  /** Choices of those grammars that are choices: one among others is taken apart. */
  readonly #choices = new Map<Grammar, readonly Grammar[]>();

  /** A grammar, or nothing. */
  maybe(part: Grammar): Grammar {
    return this.any(part, this.empty);
  }

  /** A grammar that does not end at once, `least` to `most` times. */
  repeat(part: Grammar, least: number, most: number = Infinity): Grammar {
    if (most === 0) return this.empty;
    return this.#make(`r${part.id},${least},${most}`, least === 0, (byte) => {
      const left = part.step(byte);
      return left && this.#pair(left, this.repeat(part, Math.max(least - 1, 0), most - 1));
    });
  }

  /**
   * A grammar that is made once a text comes to it, so that it may contain itself. It may not end at once, and a name that
   * begins with itself is no text.
   */
  named(name: string, make: () => Grammar): Grammar {
    let made: Grammar | undefined, isStepping = false;
    return this.#make(`n${name}`, false, (byte) => {
      if (isStepping) return undefined;
      isStepping = true;
      try {
        return (made ??= make()).step(byte);
      } finally {
        isStepping = false;
      }
    });
  }
}
