/** The server of a live report in a thread of its own: the sweep's is busy with kernels. */
import { readPlotly } from "../../../lib/plot/mod.ts";
import type { SweepSummary } from "../../../lib/sweep/mod.ts";
import { type LiveProgress, type LiveServer, serveLive } from "./server.ts";

/** What the sweep says. */
export type ToServer =
  | { readonly open: number }
  | { readonly tell: LiveProgress }
  | { readonly show: SweepSummary }
  | { readonly end: string };

/** What the server answers. */
export type FromServer =
  | { readonly url: string }
  | { readonly failed: string }
  | { readonly closed: true };

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToServer>) => void;
  postMessage(message: FromServer): void;
};
let server: LiveServer | undefined;

async function take(message: ToServer): Promise<void> {
  if ("open" in message) {
    try {
      server = serveLive(message.open, await readPlotly());
      thread.postMessage({ url: server.url });
    } catch (error) {
      thread.postMessage({ failed: (error as Error).message });
    }
  } else if ("tell" in message) server?.tell(message.tell);
  else if ("show" in message) server?.show(message.show);
  else {
    await server?.end(message.end);
    thread.postMessage({ closed: true });
  }
}

thread.onmessage = ({ data }) => void take(data);
