/** The model thread's view of a client. */
import type { FromClient, Refusal, ToClient } from "./messages.ts";
import type { Turn } from "./queue.ts";

/** Most unread parts of an answer; then the client's text waits until one has been read. */
const MOST_UNREAD = 16;

export class Client {
  readonly #port: MessagePort;
  readonly #leaving = new AbortController();
  #unread = 0;
  #heard = Promise.withResolvers<void>();
  #hasBegun = false;

  constructor(port: MessagePort) {
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<FromClient>) => {
      if (data === "left") {
        this.#leaving.abort();
        port.close();
      } else this.#unread--;
      this.#heard.resolve();
      this.#heard = Promise.withResolvers();
    };
  }

  /** Aborted when it has left. */
  get signal(): AbortSignal {
    return this.#leaving.signal;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  refuse(refused: Refusal): void {
    this.#say({ refused });
    this.#port.close();
  }

  /** Begins an answer. @param begins its media type */
  begin(begins: string): void {
    this.#hasBegun = true;
    this.#say({ begins });
  }

  /**
   * Sends a part, once enough of those before it have been read.
   *
   * @param turn The turn of the text, which others have while the client does not read.
   * @throws The signal's reason, if the client leaves.
   */
  async send(part: string, turn?: Turn): Promise<void> {
    const isBehind = () => this.#unread >= MOST_UNREAD && !this.signal.aborted;
    const caughtUp = async () => {
      while (isBehind()) await this.#heard.promise;
    };
    if (isBehind()) await (turn?.rest(caughtUp(), this.signal) ?? caughtUp());
    this.signal.throwIfAborted();
    this.#unread++;
    this.#say({ part });
  }

  /** Ends the answer. A port that only the other side closes would keep its memory. */
  end(ends: "whole" | "broken"): void {
    this.#say({ ends });
    this.#port.close();
  }

  #say(message: ToClient): void {
    this.#port.postMessage(message);
  }
}
