/** Listens for signals in a thread of its own, where the task's own has no turn for them: it writes codes to shared memory. */

export interface ToListener {
  /** One number, 0 until a signal comes: its code from then on. */
  readonly caught: Int32Array<SharedArrayBuffer>;
  readonly codes: { readonly [signal: string]: number };
}

const thread = globalThis as unknown as { onmessage: (event: MessageEvent<ToListener>) => void };

thread.onmessage = ({ data: { caught, codes } }) => {
  for (const [signal, code] of Object.entries(codes)) {
    Deno.addSignalListener(signal as Deno.Signal, () => Atomics.store(caught, 0, code));
  }
};
