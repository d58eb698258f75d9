/** Rows of products that an earlier sequence of the same first tokens has made: copied, not multiplied again. */
import { Buffer } from "node:buffer";
import type { Backend, Product } from "../backend.ts";
import { f32Data, type HostTensor, hostTensor, rowsOf, type Tensor } from "../tensor.ts";

/** The first rows of products of one x. */
interface Group {
  /** Rows of x, [R, k] f32. */
  readonly x: HostTensor;
  /** Of each weight, what came of them, [R, n] f32. */
  readonly outs: ReadonlyMap<Tensor, HostTensor>;
  /** What the R rows took, in ms. */
  readonly ms: number;
}

/** Makes products of rows of an x. */
type Multiply = (x: Tensor, products: readonly Product[]) => void;

/**
 * First rows of the products of sequences that begin alike: tokens of a warm-up go through a model as without a method.
 * Rows are found by their bits: where those of x are the same, so are those of the product.
 */
export class KnownRows {
  /** By weight. */
  readonly groups: Map<Tensor, Group> = new Map();
  /** As {@linkcode Backend.rowsAlone}. */
  readonly rowsAlone: number;
  /** Takes so many bytes for what is to be kept, if they are left. */
  readonly reserve: (bytes: number) => boolean;

  /** Knows nothing yet. @param backend One that has {@linkcode Backend.rowsAlone} */
  constructor({ rowsAlone = Infinity }: Pick<Backend, "rowsAlone">, reserve: (bytes: number) => boolean) {
    this.rowsAlone = rowsAlone;
    this.reserve = reserve;
  }

  /** The first feed of a sequence, of which so many first rows are to be known afterwards. */
  feed(rows: number): KnownFeed {
    return new KnownFeed(this, rows);
  }
}

/** A sequence's first feed: of each weight, its first product. */
export class KnownFeed {
  readonly #known: KnownRows;
  readonly #rows: number;
  readonly #met = new Set<Tensor>();
  #savedMs = 0;

  /** Use {@linkcode KnownRows.feed}. */
  constructor(known: KnownRows, rows: number) {
    this.#known = known;
    this.#rows = rows;
  }

  /** What the rows that were copied so far took when they were made, in ms. */
  get savedMs(): number {
    return this.#savedMs;
  }

  /**
   * Fills the first `results` of the products' outputs, rows that are known by a copy; the other outputs may then hold
   * anything.
   */
  multiply(x: Tensor, products: readonly Product[], results: number, multiply: Multiply): void {
    const made = products.slice(0, results), total = x.shape[0]!, { groups, rowsAlone } = this.#known;
    const isFirst = !made.some(({ weight }) => this.#met.has(weight));
    for (const { weight } of made) this.#met.add(weight);
    if (!isFirst || total <= rowsAlone || !("data" in x)) return multiply(x, products);
    const group = groups.get(made[0]!.weight), wanted = Math.min(this.#rows, total);
    const serves = group !== undefined && made.every(({ weight }) => group.outs.has(weight));
    const same = serves ? rowsToCopy(equalRows(group.x, x), total, rowsAlone) : 0;
    const copiedMs = serves ? copy(group, made, same) : 0, begin = performance.now();
    if (same === 0) multiply(x, products);
    else if (same < total) {
      const rest = (tensor: Tensor) => rowsOf(tensor as HostTensor, same, total);
      multiply(rest(x), products.map(({ weight, out }) => ({ weight, out: rest(out) })));
    }
    this.#savedMs += copiedMs;
    if (serves && group.x.shape[0]! >= wanted) return;
    const ms = (copiedMs + performance.now() - begin) * wanted / total;
    this.#keep(x as HostTensor, made, wanted, ms);
  }

  /** Keeps the first rows of products, where there is room. */
  #keep(x: HostTensor, products: readonly Product[], rows: number, ms: number): void {
    const width = products.reduce((sum, { out }) => sum + out.shape[1]!, x.shape[1]!);
    if (!this.#known.reserve(4 * rows * width)) return;
    const first = (tensor: Tensor) =>
      hostTensor("f32", [rows, tensor.shape[1]!], f32Data(tensor).slice(0, rows * tensor.shape[1]!));
    const outs = new Map(products.map(({ weight, out }) => [weight, first(out)]));
    const group: Group = { x: first(x), outs, ms };
    for (const weight of outs.keys()) this.#known.groups.set(weight, group);
  }
}

/** Copies the first rows of products. @returns What they took when they were made, in ms */
function copy({ x, outs, ms }: Group, products: readonly Product[], rows: number): number {
  const widthOf = (tensors: readonly Tensor[]) => tensors.reduce((sum, { shape }) => sum + shape[1]!, 0);
  for (const { weight, out } of products) {
    f32Data(out).set(f32Data(outs.get(weight)!).subarray(0, rows * out.shape[1]!));
  }
  const share = widthOf(products.map(({ out }) => out)) / widthOf([...outs.values()]);
  return ms * share * rows / x.shape[0]!;
}

/** How many first rows of two f32 matrices [R, n], [S, n] on the host are the same bits. */
export function equalRows(a: Tensor, b: Tensor): number {
  const width = 4 * a.shape[1]!, rows = Math.min(a.shape[0]!, b.shape[0]!);
  const bytes = ({ buffer, byteOffset }: Float32Array<ArrayBuffer>) =>
    Buffer.from(buffer, byteOffset, rows * width);
  const own = bytes(f32Data(a)), other = bytes(f32Data(b));
  const areEqual = (start: number, end: number) =>
    own.subarray(start * width, end * width).equals(other.subarray(start * width, end * width));
  if (areEqual(0, rows)) return rows;
  let same = 0;
  for (let end = rows; end - same > 1;) {
    const middle = (same + end) >> 1;
    if (areEqual(same, middle)) same = middle;
    else end = middle;
  }
  return same;
}

/** How many of the `same` first rows of `total` to copy, so that what is left has the bits that it has beside them. */
export function rowsToCopy(same: number, total: number, rowsAlone: number): number {
  return same === total ? same : Math.max(0, Math.min(same, total - rowsAlone - 1));
}
