/** A thread that turns texts into token ids, as a worker: it can be ended in the middle of one. */
import { reopenTokenizer } from "../../../lib/model/load.ts";
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";
import type { FromEncoder, ToEncoder } from "./encoder.ts";

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToEncoder>) => void;
  postMessage(message: FromEncoder, transfer?: Transferable[]): void;
};
let tokenizer: Tokenizer;

thread.onmessage = async ({ data }) => {
  try {
    if ("origin" in data) {
      tokenizer = await reopenTokenizer(data.origin);
      thread.postMessage({ ready: true });
    } else {
      const ids = tokenizer.encode(data.text, data.options);
      thread.postMessage({ ids }, [ids.buffer]);
    }
  } catch (error) {
    thread.postMessage({ failed: (error as Error).message });
  }
};
