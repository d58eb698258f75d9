/** Keeps computed tensors for reuse while a byte budget lasts. */
import { byteSize } from "../dtype.ts";
import type { SharedTensors } from "./task.ts";
import { countOf, type HostTensor, type Tensor } from "../tensor.ts";

/** Bytes of a tensor's values. */
const bytesOf = ({ dtype, shape }: Tensor): number => byteSize(dtype, countOf(shape));

/**
 * First come, first kept: what does not fit any more is computed again each time it is asked for. Spare tensors, of which
 * a byte saves less work, make room for the others.
 */
export class TensorCache {
  readonly #entries = new Map<string, Tensor>();
  readonly #spare = new Set<string>();
  readonly #free: (tensor: Tensor) => void;
  readonly #shared: SharedTensors | undefined;
  #bytesLeft: number;

  /**
   * An empty cache.
   *
   * @param bytes Budget for all kept tensors.
   * @param free Frees a spare tensor that has made room. None may be in use while another is put.
   * @param shared Where spare tensors lie that other processes need too.
   */
  constructor(bytes: number, free: (tensor: Tensor) => void = () => {}, shared?: SharedTensors) {
    this.#shared = shared;
    this.#bytesLeft = bytes;
    this.#free = free;
  }

  /** Whether a tensor is kept under a key. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** Takes so many bytes from the budget for what is kept elsewhere, if they are left. */
  reserve(bytes: number): boolean {
    if (bytes > this.#bytesLeft) return false;
    this.#bytesLeft -= bytes;
    return true;
  }

  /** Keeps a tensor if it fits; one that is already kept under the key stays. */
  put(key: string, tensor: Tensor, { spare = false }: { readonly spare?: boolean } = {}): void {
    const bytes = bytesOf(tensor);
    if (this.#entries.has(key)) return;
    if (!spare) this.#makeRoom(bytes);
    if (bytes > this.#bytesLeft) return;
    this.#bytesLeft -= bytes;
    this.#entries.set(key, tensor);
    if (spare) this.#spare.add(key);
  }

  /** The kept tensor, or the computed one, which is then kept if it fits. */
  get(key: string, compute: () => Tensor, options?: { readonly spare?: boolean }): Tensor {
    const kept = this.#entries.get(key);
    if (kept !== undefined) return kept;
    const tensor = options?.spare ? this.#fromAll(key, compute) : compute();
    this.put(key, tensor, options);
    return tensor;
  }

  /** A tensor as all processes have it, or computed for them, if it is to be kept. */
  #fromAll(key: string, compute: () => Tensor): Tensor {
    const found = this.#shared?.find(key);
    if (found !== undefined) return found;
    const own = compute();
    if (
      this.#shared === undefined || !("data" in own) || own.dtype !== "f32" || bytesOf(own) > this.#bytesLeft
    ) {
      return own;
    }
    const kept = this.#shared.keep(key, own as HostTensor);
    if (kept !== undefined) this.#free(own);
    return kept ?? own;
  }

  /** Drops spare tensors, the last first, until so many bytes are left or no spare one is. */
  #makeRoom(bytes: number): void {
    for (const key of [...this.#spare].reverse()) {
      if (this.#bytesLeft >= bytes) return;
      const tensor = this.#entries.get(key)!;
      this.#bytesLeft += bytesOf(tensor);
      this.#entries.delete(key);
      this.#spare.delete(key);
      this.#free(tensor);
    }
  }
}
