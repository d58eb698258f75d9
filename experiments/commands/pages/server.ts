/** A page that renews itself, and its server. */
import { contentPolicy } from "../../../lib/plot/figure/html.ts";
import { PAGE_PROGRAM } from "../../../lib/plot/figure/page.ts";
import { readPlotly } from "../../../lib/plot/figure/plotly.ts";
import { type HttpServer, serveHttp } from "../cli/machine/http.ts";
import { LOCALHOST, OWN_NAMES, sameSecret } from "../cli/flags/token.ts";

interface PageProgress {
  /** Finished fraction of the work, in [0, 1]. */
  readonly fraction: number;
  /** The same in words. */
  readonly text: string;
}

/** News for every page: the run's progress, and a new report if there is one. */
export interface PageNews extends PageProgress {
  /** The report, if it is newer than the page's. */
  readonly report?: string;
  readonly ended: boolean;
}

/** Address of plotly's source next to a served report. */
export const PLOTLY = { src: "plotly.min.js" };

/** Files of the page around a report, and where it finds them. */
const FILES = { "/": "page.html", "/page.js": "page.js" } as const;

/** The page's content security policy. It applies to the report in its frame too, which has a program of its own. */
const POLICY = `${contentPolicy([PAGE_PROGRAM], "'self'")}; connect-src 'self'; frame-src 'self'`;

/** Whether a request shows a token: as a bearer, or as the cookie that a page was given. */
function hasToken(headers: Headers, token: string): boolean {
  const cookies = headers.get("cookie")?.split(/; */) ?? [];
  return sameSecret(headers.get("authorization") ?? "", `Bearer ${token}`) ||
    cookies.some((cookie) => sameSecret(cookie, `token=${encodeURIComponent(token)}`));
}

/** Milliseconds for sending the final message. */
const LAST_MS = 2000;

/** Where a page is served, and which requests may read it. */
export interface ServeOptions {
  /** 0 = any that is free. */
  readonly port: number;
  /** Default: 127.0.0.1. */
  readonly hostname?: string;
  /** The token of requests, as `?token=` once or as a bearer's token; without one, only this machine has access. */
  readonly token?: string;
}

export class PageServer {
  readonly url: string;
  readonly #server: HttpServer;
  /** Texts by path. */
  readonly #files: ReadonlyMap<string, string>;
  readonly #token: string | undefined;
  #progress: PageProgress = { fraction: 0, text: "begins" };
  #ended = false;
  #render: (() => string) | undefined;
  #report: string | undefined;
  /** Numbers of messages to the pages, and of reports among them. */
  #told = 1;
  #version = 0;
  #next = Promise.withResolvers<void>();

  private constructor(
    server: HttpServer,
    { hostname = LOCALHOST, token }: ServeOptions,
    files: ReadonlyMap<string, string>,
  ) {
    this.#files = files;
    this.#token = token;
    this.#server = server;
    const host = hostname.includes(":") ? `[${hostname}]` : hostname;
    this.url = `http://${host}:${server.port}/`;
  }

  /**
   * Begins to serve.
   *
   * @throws {Error} If it cannot listen at the address; its message is one line.
   */
  static async open(options: ServeOptions): Promise<PageServer> {
    const files = new Map([[`/${PLOTLY.src}`, await readPlotly()]]);
    for (const [path, file] of Object.entries(FILES)) {
      files.set(path, await Deno.readTextFile(new URL(file, import.meta.url)));
    }
    try {
      const { hostname = LOCALHOST, port } = options;
      const server = await serveHttp({ hostname, port }, (request) => page.#answer(request));
      const page = new PageServer(server, options, files);
      return page;
    } catch (error) {
      const [line] = (error as Error).message.split("\n");
      throw new Error(line!.replace(/ \(os error \d+\)/, ""));
    }
  }

  /** Resolves with a line where connections are accepted no more. */
  get deaf(): Promise<string> {
    return this.#server.deaf;
  }

  tell(progress: PageProgress): void {
    this.#progress = progress;
    this.#tellAll();
  }

  /** Shows another report, which is rendered when a page asks for it: a run without a reader pays for none. */
  show(render: () => string): void {
    this.#render = render;
    this.#report = undefined;
    this.#version++;
    this.#tellAll();
  }

  /** Shows the final message, and closes once every page has it, or after two seconds. */
  async end(text: string): Promise<void> {
    this.#progress = { ...this.#progress, text };
    this.#ended = true;
    this.#tellAll();
    const late = Promise.withResolvers<void>(), timer = setTimeout(late.resolve, LAST_MS);
    await Promise.race([this.#server.shutdown(), late.promise]);
    clearTimeout(timer);
  }

  #tellAll(): void {
    this.#told++;
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  #draw(): string {
    return this.#report ??= this.#render!();
  }

  /** All news for one page; a slow page gets only the last ones. */
  #listen(): ReadableStream<Uint8Array> {
    let heard = 0, has = 0, isGone = false;
    return new ReadableStream({
      pull: async (controller) => {
        if (heard === this.#told) await this.#next.promise;
        if (isGone) return;
        heard = this.#told;
        const report = has < this.#version ? { report: this.#draw() } : {};
        const news: PageNews = { ...this.#progress, ended: this.#ended, ...report };
        has = this.#version;
        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(news)}\n\n`));
        if (this.#ended) controller.close();
      },
      cancel() {
        isGone = true;
      },
    });
  }

  #answer(request: Request): Response {
    const { hostname, pathname, searchParams } = new URL(request.url), token = this.#token;
    if (token === undefined) {
      if (!OWN_NAMES.has(hostname)) {
        return new Response("This page is for this machine.\n", { status: 403 });
      }
    } else if (sameSecret(searchParams.get("token") ?? "", token)) {
      // The browser then sends the cookie, and the address has no token. Two slashes would name a host.
      const cookie = `token=${encodeURIComponent(token)}; HttpOnly; SameSite=Strict; Path=/`;
      const location = pathname.replace(/^\/+/, "/");
      return new Response(null, { status: 303, headers: { location, "set-cookie": cookie } });
    } else if (!hasToken(request.headers, token)) {
      return new Response("This page wants its token: ?token=…\n", { status: 401 });
    }
    const reply = (
      body: string | ReadableStream<Uint8Array>,
      type: string,
      more: Record<string, string> = {},
    ) =>
      new Response(body, {
        headers: { "content-type": `${type}; charset=utf-8`, "cache-control": "no-store", ...more },
      });
    if (pathname === "/events") return reply(this.#listen(), "text/event-stream");
    if (pathname === "/report.html" && this.#render !== undefined) return reply(this.#draw(), "text/html");
    const file = this.#files.get(pathname);
    if (file === undefined) return new Response("There is no such page.\n", { status: 404 });
    return pathname === "/"
      ? reply(file, "text/html", { "content-security-policy": POLICY })
      : reply(file, "text/javascript", { "cache-control": "max-age=3600" });
  }
}
