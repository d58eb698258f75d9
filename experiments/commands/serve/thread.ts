/** The thread of HTTP, as a worker. */
import type { FromHttp, ServerState, ToHttp } from "./messages.ts";
import { createHandler } from "./server.ts";

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToHttp>) => void;
  postMessage(message: FromHttp, transfer?: Transferable[]): void;
};
let state: ServerState = { running: 0, waiting: 0, totals: {} };

thread.onmessage = ({ data }) => {
  if ("state" in data) {
    state = data.state;
    return;
  }
  const { hostname, port, token, models } = data.listen;
  const handler = createHandler({
    ...{ models, token },
    ask: (asked) => thread.postMessage({ asked }, [asked.client]),
    state: () => state,
  });
  try {
    const { addr } = Deno.serve({ hostname, port, onListen: () => {} }, handler);
    thread.postMessage({ listens: addr as Deno.NetAddr });
  } catch (error) {
    thread.postMessage({ failed: (error as Error).message.split("\n")[0]! });
  }
};
