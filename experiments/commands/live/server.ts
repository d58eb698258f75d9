/** The report of a sweep as it grows, on this machine's own address: pages that renew themselves. */
import { renderSweepReport } from "../../../lib/plot/mod.ts";
import type { SweepSummary } from "../../../lib/sweep/mod.ts";
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

/** What a server shows. @typeParam S what reports are made of */
export interface LiveServer<S = SweepSummary> {
  /** Where it is to be seen. */
  readonly url: string;
  /** Shows how far the run is. */
  tell(progress: LiveProgress): void;
  /** Shows what is finished. */
  show(now: S): void;
  /** Says the last word, and closes once every page has it, or after two seconds. */
  end(text: string): Promise<void>;
}

/** Addresses of this machine that a page may have been asked for by: no name that another machine has given it. */
const OWN_NAMES = ["127.0.0.1", "localhost"];

/** Whether a request shows a token: as a bearer, or as the cookie that a page was given. */
function hasToken(headers: Headers, token: string): boolean {
  const cookies = headers.get("cookie")?.split(/; */) ?? [];
  return headers.get("authorization") === `Bearer ${token}` ||
    cookies.includes(`token=${encodeURIComponent(token)}`);
}

/** Milliseconds that the last word may take. */
const LAST_MS = 2000;

/** How reports are made, and who may see them. */
export interface LiveOptions<S> {
  /** Makes a report. */
  readonly render: (now: S) => string;
  /** Where to listen; default: 127.0.0.1. */
  readonly hostname?: string;
  /** What requests must show, as `?token=` once or as a bearer's token; without one, the page is for this machine alone. */
  readonly token?: string;
}

const SWEEP: LiveOptions<SweepSummary> = {
  render: (summary) => renderSweepReport(summary, { plotly: { src: "plotly.min.js" } }),
};

/**
 * Serves a page that renews itself.
 *
 * @param port 0 = any that is free.
 * @param plotly Text of plotly's browser bundle.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 */
export function serveLive(port: number, plotly: string): LiveServer;
export function serveLive<S>(port: number, plotly: string, options: LiveOptions<S>): LiveServer<S>;
export function serveLive<S>(
  port: number,
  plotly: string,
  { render: draw, hostname = "127.0.0.1", token }: LiveOptions<S> = SWEEP as unknown as LiveOptions<S>,
): LiveServer<S> {
  let progress: LiveProgress = { fraction: 0, text: "begins" }, ended = false;
  let shown: { readonly now: S } | undefined, report: string | undefined;
  /** Counts what was told, and the reports among it. */
  let told = 1, version = 0;
  let next = Promise.withResolvers<void>();
  const tellAll = () => {
    told++;
    next.resolve();
    next = Promise.withResolvers();
  };
  // Drawn when a page asks: a run that nobody watches pays for none.
  const render = () => report ??= draw(shown!.now);

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
    const { hostname: name, pathname, searchParams } = new URL(request.url);
    if (token === undefined) {
      if (!OWN_NAMES.includes(name)) return new Response("This page is for this machine.\n", { status: 403 });
    } else if (searchParams.get("token") === token) {
      // From here on the browser shows it by itself, and the address holds it no more.
      const cookie = `token=${encodeURIComponent(token)}; HttpOnly; SameSite=Strict; Path=/`;
      return new Response(null, { status: 303, headers: { location: pathname, "set-cookie": cookie } });
    } else if (!hasToken(request.headers, token)) {
      return new Response("This page wants its token: ?token=…\n", { status: 401 });
    }
    const reply = (body: string | ReadableStream<Uint8Array>, type: string, cache = "no-store") =>
      new Response(body, { headers: { "content-type": `${type}; charset=utf-8`, "cache-control": cache } });
    switch (pathname) {
      case "/":
        return reply(LIVE_PAGE, "text/html");
      case "/events":
        return reply(listen(), "text/event-stream");
      case "/report.html":
        if (shown !== undefined) return reply(render(), "text/html");
        break;
      case "/plotly.min.js":
        return reply(plotly, "text/javascript", "max-age=3600");
    }
    return new Response("There is no such page.\n", { status: 404 });
  };
  const server = Deno.serve({ hostname, port, onListen: () => {} }, answer);
  return {
    url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${server.addr.port}/`,
    tell(now) {
      progress = now;
      tellAll();
    },
    show(now) {
      shown = { now };
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
