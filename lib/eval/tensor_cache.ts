/** Keeps computed tensors for reuse while a byte budget lasts. */
import { byteSize } from "../dtype.ts";
import { countOf, type Tensor } from "../tensor.ts";

/** First come, first kept: what does not fit any more is computed again each time it is asked for. */
export class TensorCache {
  readonly #entries = new Map<string, Tensor>();
  #bytesLeft: number;

  /** An empty cache with a budget of bytes for all kept tensors. */
  constructor(bytes: number) {
    this.#bytesLeft = bytes;
  }

  /** Whether a tensor is kept under a key. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** Keeps a tensor if it fits; one that is already kept under the key stays. */
  put(key: string, tensor: Tensor): void {
    const bytes = byteSize(tensor.dtype, countOf(tensor.shape));
    if (bytes > this.#bytesLeft || this.#entries.has(key)) return;
    this.#bytesLeft -= bytes;
    this.#entries.set(key, tensor);
  }

  /** The kept tensor, or the computed one, which is then kept if it fits. */
  get(key: string, compute: () => Tensor): Tensor {
    const kept = this.#entries.get(key);
    if (kept !== undefined) return kept;
    const tensor = compute();
    this.put(key, tensor);
    return tensor;
  }
}
