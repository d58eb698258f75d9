/** Items: questions with continuations of which a model finds one likelier than the others, or words to be guessed. */

/** A continuation whose log-likelihood is wanted. */
export interface ItemRequest {
  /** Text before it; not scored. */
  readonly context: string;
  /** The text to score, with the space that separates it. */
  readonly continuation: string;
  /** Characters (code points) of the choice without that space: the divisor of `acc_norm`. */
  readonly characters: number;
}

/** Texts that are looked for in a text that a model makes. */
export interface Sought {
  /** The texts, whatever their order and the case of their letters. */
  readonly answers: readonly string[];
  readonly maxTokens: number;
  /**
   * Texts that end it, and are no part of it. An item that has a list, also an empty one, is read as
   * lm-evaluation-harness reads `generate_until`: its context with the spaces at the end.
   */
  readonly until?: readonly string[];
}

/** @internal One item. */
export interface Item {
  readonly id: string;
  /** File and line, as messages name them. */
  readonly place: string;
  /** The texts to score; those of one context branch from it. */
  readonly requests: readonly [ItemRequest, ...ItemRequest[]];
  /** 0-based index of the right one. */
  readonly gold: number;
  /** The answers to search in the greedy continuation of the first context, for a task that asks for one. */
  readonly sought?: Sought;
  /** The part of a whole that it belongs to, such as an MMLU subject. */
  readonly group?: string;
  /** Start of its contexts that other items have too: computed once for all of them. */
  readonly shared?: string;
  /** 0-based index that rules with random draws use: the item's in its file, or one for all with the same start. */
  readonly stream: number;
}

/** A choice after its context and one space, or another separator. */
export function requestOf(context: string, choice: string, delimiter = " "): ItemRequest {
  return { context, continuation: `${delimiter}${choice}`, characters: [...choice].length };
}

/**
 * The first items; of a task with groups as many of each group as can be, the first ones of each.
 *
 * @param count Most items; default: all.
 *
 * @example
 * ```ts
 * const items = ["a", "a", "a", "b"].map((group, i) => ({ id: String(i), group }));
 * console.assert(limitItems(items, 3).map(({ id }) => id).join() === "0,1,3");
 * ```
 */
export function limitItems<T extends Pick<Item, "id" | "group">>(
  items: readonly T[],
  count = Infinity,
): readonly T[] {
  const ranks = new Map<string, number>();
  const ranked = items.map((item, place) => {
    const rank = ranks.get(item.group ?? "") ?? 0;
    ranks.set(item.group ?? "", rank + 1);
    return { item, place, rank };
  });
  const first = ranked.toSorted((a, b) => a.rank - b.rank || a.place - b.place).slice(0, count);
  return first.sort((a, b) => a.place - b.place).map(({ item }) => item);
}
