/** The report of a sweep as it grows, on this machine's own address: pages that renew themselves. */
import { renderSweepReport } from "../../lib/plot/mod.ts";
import type { SweepSummary } from "../../lib/sweep/mod.ts";
import { LIVE_PAGE } from "./page.ts";

/** How far a run has come. */
export interface LiveProgress {
  /** Finished share of the work, in [0, 1]. */
  readonly fraction: number;
  /** The same in words. */
  readonly text: string;
}

/** What is told to every page: each time how far the run is, and what is new. */
export interface LiveNews extends LiveProgress {
  /** The report, where it is another one than the page has. */
  readonly report?: string;
  /** Whether nothing more will come. */
  readonly ended: boolean;
}

/** What a server shows. */
export interface LiveServer {
  /** Where it is to be seen. */
  readonly url: string;
  /** Shows how far the run is. */
  tell(progress: LiveProgress): void;
  /** Shows what is finished. */
  show(summary: SweepSummary): void;
  /** Says the last word, and closes once every page has it, or after two seconds. */
  end(text: string): Promise<void>;
}

/** Addresses of this machine that a page may have been asked for by: no name that another machine has given it. */
const OWN_NAMES = ["127.0.0.1", "localhost"];

/** Milliseconds that the last word may take. */
const LAST_MS = 2000;

/**
 * Serves on 127.0.0.1 alone.
 *
 * @param port 0 = any that is free.
 * @param plotly Text of plotly's browser bundle.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 */
export function serveLive(port: number, plotly: string): LiveServer {
  let progress: LiveProgress = { fraction: 0, text: "begins" }, ended = false;
  let summary: SweepSummary | undefined, report: string | undefined;
  /** Counts what was told, and the reports among it. */
  let told = 1, version = 0;
  let next = Promise.withResolvers<void>();
  const tellAll = () => {
    told++;
    next.resolve();
    next = Promise.withResolvers();
  };
  // Drawn when a page asks: a run that nobody watches pays for none.
  const render = () => report ??= renderSweepReport(summary!, { plotly: { src: "plotly.min.js" } });

  /** All news for one page; of several that it was too slow for, the last. */
  const listen = (): ReadableStream<Uint8Array> => {
    let heard = 0, has = 0, isGone = false;
    return new ReadableStream({
      async pull(controller) {
        if (heard === told) await next.promise;
        if (isGone) return;
        heard = told;
        const news: LiveNews = { ...progress, ended, ...(has < version && { report: render() }) };
        has = version;
        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(news)}\n\n`));
        if (ended) controller.close();
      },
      cancel() {
        isGone = true;
      },
    });
  };
  const answer = (request: Request): Response => {
    const { hostname, pathname } = new URL(request.url);
    if (!OWN_NAMES.includes(hostname)) {
      return new Response("This page is for this machine.\n", { status: 403 });
    }
    const reply = (body: string | ReadableStream<Uint8Array>, type: string, cache = "no-store") =>
      new Response(body, { headers: { "content-type": `${type}; charset=utf-8`, "cache-control": cache } });
    switch (pathname) {
      case "/":
        return reply(LIVE_PAGE, "text/html");
      case "/events":
        return reply(listen(), "text/event-stream");
      case "/report.html":
        if (summary !== undefined) return reply(render(), "text/html");
        break;
      case "/plotly.min.js":
        return reply(plotly, "text/javascript", "max-age=3600");
    }
    return new Response("There is no such page.\n", { status: 404 });
  };
  const server = Deno.serve({ hostname: "127.0.0.1", port, onListen: () => {} }, answer);
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    tell(now) {
      progress = now;
      tellAll();
    },
    show(now) {
      summary = now;
      report = undefined;
      version++;
      tellAll();
    },
    async end(text) {
      progress = { ...progress, text };
      ended = true;
      tellAll();
      const late = Promise.withResolvers<void>(), timer = setTimeout(late.resolve, LAST_MS);
      await Promise.race([server.shutdown(), late.promise]);
      clearTimeout(timer);
    },
  };
}
