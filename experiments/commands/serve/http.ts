/** The model thread's view of the HTTP thread. */
import { UsageError } from "../../../lib/errors.ts";
import type { Address, Asked, FromHttp, ServerState, ToHttp } from "./messages.ts";

export class HttpThread implements Disposable {
  readonly #worker = new Worker(new URL("./thread.ts", import.meta.url), { type: "module" });
  readonly #failing = Promise.withResolvers<never>();
  readonly #deaf = Promise.withResolvers<string>();

  constructor() {
    this.#failing.promise.catch(() => {}); // the waiting call gets the error
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#failing.reject(new Error(`the server's thread has failed: ${event.message}`));
    };
  }

  /** Fails where the thread does. */
  get failed(): Promise<never> {
    return this.#failing.promise;
  }

  /** Resolves with a line where connections are accepted no more. */
  get deaf(): Promise<string> {
    return this.#deaf.promise;
  }

  /**
   * Begins to listen.
   *
   * @returns where
   * @throws {UsageError} If it cannot listen at the address.
   */
  async listen(
    address: Address,
    onAsked: (asked: Asked) => void,
  ): Promise<{ readonly hostname: string; readonly port: number }> {
    const listening = Promise.withResolvers<{ readonly hostname: string; readonly port: number }>();
    this.#worker.onmessage = ({ data }: MessageEvent<FromHttp>) => {
      if ("asked" in data) onAsked(data.asked);
      else if ("deaf" in data) this.#deaf.resolve(data.deaf);
      else if ("listens" in data) listening.resolve(data.listens);
      else {
        const { hostname, port } = address;
        listening.reject(new UsageError(`Cannot listen on ${hostname}:${port}: ${data.failed}`));
      }
    };
    this.#say({ listen: address });
    return await Promise.race([listening.promise, this.failed]);
  }

  tell(state: ServerState): void {
    this.#say({ state });
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }

  #say(message: ToHttp): void {
    this.#worker.postMessage(message);
  }
}
