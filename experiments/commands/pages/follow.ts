/** A study on a page that follows it. */
import { setTimeout as delay } from "node:timers/promises";
import { UsageError } from "../../../lib/errors.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import { Interrupt } from "../cli/run/interrupt.ts";
import { Progress } from "../cli/output/progress.ts";
import { EXIT, writeLine } from "../cli/task.ts";
import { describeCounts, renderStudy } from "../study/page.ts";
import { PageServer, PLOTLY, type ServeOptions } from "./server.ts";

/** Milliseconds between two reads of a study; longer if drawing takes more than a tenth of that. */
const LOOK_MS = 500;

/**
 * Shows a study as it grows, until the signal is aborted, and once more then.
 *
 * @param render The page of the study as it stands.
 * @param least Trials that must have ended before it is drawn.
 */
export async function followStudy(
  store: StudyStore,
  server: PageServer,
  render: () => string,
  signal: AbortSignal,
  least = 0,
): Promise<void> {
  let drawMs = 0, shown = "", first: number | undefined;
  const draw = () => {
    const began = performance.now(), html = render();
    drawMs = performance.now() - began;
    return html;
  };
  const clock = new Progress(undefined);
  clock.start();
  const look = () => {
    const counts = store.count(), { waiting, running, ...ended } = counts;
    const done = Object.values(ended).reduce((a, b) => a + b);
    const total = Math.max(done + waiting + running, store.get("search")?.trials ?? 0);
    const state = JSON.stringify([counts, store.workers().map(({ trial, finished }) => [trial, finished])]);
    if (state === shown) return;
    shown = state;
    first ??= done;
    const left = done > first && done < total ? `, ${clock.eta((done - first) / (total - first))}` : "";
    server.tell({ fraction: total === 0 ? 0 : done / total, text: describeCounts(counts) + left });
    if (done >= least) server.show(draw);
  };
  while (!signal.aborted) {
    look();
    await delay(Math.max(LOOK_MS, 10 * drawMs), undefined, { signal }).catch(() => {}); // aborted: the last look
  }
  look();
}

/** Serves a study until Ctrl-C. @returns The exit code. @throws {UsageError} If it cannot listen at the address. */
export async function serveStudy(store: StudyStore, options: ServeOptions): Promise<number> {
  using interrupt = new Interrupt();
  const server = await PageServer.open(options).catch((error: Error) => {
    const address = `${options.hostname}:${options.port}`;
    throw new UsageError(`Cannot serve on ${address}: ${error.message} (take another --port)`);
  });
  const token = options.token === undefined ? "" : "?token=…";
  writeLine(Deno.stdout, `Serving study ${store.facts.name} on ${server.url}${token}, until Ctrl-C`);
  const deaf = new AbortController();
  void server.deaf.then((fault) => {
    writeLine(Deno.stderr, `Cannot go on: ${fault}`);
    deaf.abort();
  });
  const ended = AbortSignal.any([interrupt.signal, deaf.signal]);
  await followStudy(store, server, () => renderStudy(store, PLOTLY), ended);
  await server.end("The page is no longer served: this is the last that it showed.");
  return deaf.signal.aborted ? EXIT.failed : EXIT.ok;
}
