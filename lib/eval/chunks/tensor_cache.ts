/** Keeps computed tensors for reuse while a byte budget lasts. */
import { byteSize } from "../../dtype.ts";
import { countOf, type Tensor } from "../../tensor.ts";

const bytesOf = ({ dtype, shape }: Tensor): number => byteSize(dtype, countOf(shape));

interface Keeping {
  /** A byte of it saves less work than one of the others, which take its room. */
  readonly spare?: boolean;
  /** Keys of spare tensors whose room it takes in turn. */
  readonly insteadOf?: (key: string) => boolean;
}

/**
 * Tensors are kept in the order of arrival: one that no longer fits is computed again each time it is needed. Spare
 * tensors make room for the others.
 */
export class TensorCache {
  readonly #entries = new Map<string, Tensor>();
  readonly #spare = new Set<string>();
  readonly #free: (tensor: Tensor) => void;
  #bytesLeft: number;

  /**
   * An empty cache.
   *
   * @param bytes Budget for all kept tensors.
   * @param free Frees a spare tensor that has made room. None may be in use while another is put.
   */
  constructor(bytes: number, free: (tensor: Tensor) => void = () => {}) {
    this.#bytesLeft = bytes;
    this.#free = free;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** Keeps a tensor if it fits; one that is already kept under the key stays. */
  put(key: string, tensor: Tensor, { spare = false, insteadOf = () => !spare }: Keeping = {}): void {
    const bytes = bytesOf(tensor);
    if (this.#entries.has(key)) return;
    this.#makeRoom(bytes, insteadOf);
    if (bytes > this.#bytesLeft) return;
    this.#bytesLeft -= bytes;
    this.#entries.set(key, tensor);
    if (spare) this.#spare.add(key);
  }

  /** The kept tensor, or the computed one, which is then kept if it fits. */
  get(key: string, compute: () => Tensor, options?: Keeping): Tensor {
    const kept = this.#entries.get(key);
    if (kept !== undefined) return kept;
    const tensor = compute();
    this.put(key, tensor, options);
    return tensor;
  }

  /** Drops such spare tensors, the last first, until the given number of bytes is free or none is left. */
  #makeRoom(bytes: number, mayDrop: (key: string) => boolean): void {
    for (const key of [...this.#spare].reverse()) {
      if (this.#bytesLeft >= bytes) return;
      if (!mayDrop(key)) continue;
      const tensor = this.#entries.get(key)!;
      this.#bytesLeft += bytesOf(tensor);
      this.#entries.delete(key);
      this.#spare.delete(key);
      this.#free(tensor);
    }
  }
}
