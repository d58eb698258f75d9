/** The thread of HTTP, as a worker. */
import { serveHttp } from "../cli/machine/http.ts";
import type { FromHttp, ServerState, ToHttp } from "./messages.ts";
import { createHandler } from "./server.ts";

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToHttp>) => void;
  postMessage(message: FromHttp, transfer?: Transferable[]): void;
};
let state: ServerState = { running: 0, waiting: 0, totals: {} };

thread.onmessage = async ({ data }) => {
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
    const { hostname: host, port: own, deaf } = await serveHttp({ hostname, port }, handler);
    thread.postMessage({ listens: { hostname: host, port: own } });
    thread.postMessage({ deaf: await deaf });
  } catch (error) {
    thread.postMessage({ failed: (error as Error).message.split("\n")[0]! });
  }
};
