/** The page of a sweep's study, served in a thread of its own: the sweep's is busy with kernels. */
import { renderSweepReport } from "../../../lib/plot/reports/sweep.ts";
import type { StoppedTrial, Trial } from "../../../lib/sweep/trial.ts";
import { StudyStore } from "../../../lib/sweep/trials/store.ts";
import { summaryOf } from "../study/open.ts";
import { followStudy } from "./follow.ts";
import { PageServer, PLOTLY } from "./server.ts";

/** Messages of the sweep: the port, then the study's file, then the final text. */
export type ToServer = { readonly open: number } | { readonly follow: string } | { readonly end: string };

/** Answers of the server to the first and the last message. */
export type FromServer =
  | { readonly url: string }
  | { readonly failed: string }
  | { readonly closed: true };

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToServer>) => void;
  postMessage(message: FromServer): void;
};
const over = new AbortController();
let server: PageServer, following: Promise<void> | undefined;

async function follow(path: string): Promise<void> {
  using store = StudyStore.open(path);
  const render = () => {
    const records = store.results<Trial | StoppedTrial>().map(({ record }) => record);
    const stopped = records.filter((record) => "stopped" in record);
    return renderSweepReport({ ...summaryOf(store), stopped }, { plotly: PLOTLY });
  };
  await followStudy(store, server, render, over.signal, 1);
}

async function take(message: ToServer): Promise<void> {
  if ("open" in message) {
    try {
      server = await PageServer.open({ port: message.open });
      thread.postMessage({ url: server.url });
    } catch (error) {
      thread.postMessage({ failed: (error as Error).message });
    }
  } else if ("follow" in message) following = follow(message.follow);
  else {
    over.abort();
    await following;
    await server.end(message.end);
    thread.postMessage({ closed: true });
  }
}

thread.onmessage = ({ data }) => void take(data);
