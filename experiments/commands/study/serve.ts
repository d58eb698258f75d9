/** `deno task study serve`: a study in a browser while workers are at it. */
import { UsageError } from "../../../lib/errors.ts";
import { readPlotly } from "../../../lib/plot/mod.ts";
import type { StudyStore } from "../../../lib/sweep/mod.ts";
import { Interrupt } from "../cli/interrupt.ts";
import { Progress } from "../cli/progress.ts";
import { writeLine } from "../cli/task.ts";
import { serveLive } from "../live/server.ts";
import { describeCounts, renderStudy } from "./page.ts";

/** Milliseconds between two looks at a study; more where drawing it takes longer than a tenth of that. */
const LOOK_MS = 500;

/** Where a study is served. */
export interface ServeOptions {
  readonly hostname: string;
  readonly port: number;
  /** What requests must show. */
  readonly token: string | undefined;
}

/** Serves a study until Ctrl-C. @throws {UsageError} If the address cannot be had. */
export async function serveStudy(store: StudyStore, { hostname, port, token }: ServeOptions): Promise<void> {
  using interrupt = new Interrupt();
  let drawMs = 0;
  const render = () => {
    const began = performance.now(), html = renderStudy(store, { src: "plotly.min.js" });
    drawMs = performance.now() - began;
    return html;
  };
  const server = listen(port, await readPlotly(), { hostname, token, render });
  writeLine(
    Deno.stdout,
    `Serving study ${store.facts.name} on ${server.url}${
      token === undefined ? "" : "?token=…"
    }, until Ctrl-C`,
  );
  const clock = new Progress(undefined);
  clock.start();
  let shown = "", first: number | undefined;
  const told = new Promise((resolve) => interrupt.signal.addEventListener("abort", resolve));
  while (!interrupt.signal.aborted) {
    const counts = store.count(), { waiting, running, ...ended } = counts;
    const done = Object.values(ended).reduce((a, b) => a + b), total = done + waiting + running;
    const state = JSON.stringify([counts, store.workers().map(({ trial, finished }) => [trial, finished])]);
    if (state !== shown) {
      shown = state;
      first ??= done;
      const left = done > first && done < total ? `, ${clock.eta((done - first) / (total - first))}` : "";
      server.tell({ fraction: total === 0 ? 0 : done / total, text: describeCounts(counts) + left });
      server.show(undefined);
    }
    await Promise.race([
      new Promise((resolve) => setTimeout(resolve, Math.max(LOOK_MS, 10 * drawMs))),
      told,
    ]);
  }
  await server.end("The page is no longer served: this is the last that it showed.");
}

/** @throws {UsageError} If the address cannot be had. */
function listen(port: number, plotly: string, options: Parameters<typeof serveLive<undefined>>[2]) {
  try {
    return serveLive(port, plotly, options);
  } catch (error) {
    const why = (error as Error).message.split("\n")[0]!.replace(/ \(os error \d+\)/, "");
    throw new UsageError(`Cannot serve on ${options?.hostname}:${port}: ${why} (take another --port)`);
  }
}
