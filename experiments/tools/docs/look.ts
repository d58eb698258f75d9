/** Checks pages of a built site as readers see them: light and dark, wide and as narrow as a phone. */
import { openBrowser } from "../browser/mod.ts";

/** The pages that are checked: the first page, a diagram, long tables, and code. */
export const PAGES = [
  "index.html",
  "docs/start/concepts.html",
  "docs/results/study.html",
  "docs/reference/library.html",
];

const TYPES: { readonly [ending: string]: string } = {
  ...{ html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", json: "application/json" },
  ...{ svg: "image/svg+xml", png: "image/png", woff2: "font/woff2" },
};

/** Serves a folder to this machine until it is disposed of. */
export function serveFolder(folder: string, base: string): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async ({ url }) => {
    const path = decodeURI(new URL(url).pathname).replace(base, "").replace(/(^|\/)$/, "$1index.html");
    try {
      const body = await Deno.readFile(`${folder}/${path}`);
      return new Response(body, {
        headers: { "content-type": TYPES[path.split(".").at(-1)!] ?? "text/plain" },
      });
    } catch {
      return new Response("", { status: 404 });
    }
  });
}

/** Rules of axe that hold here: a title, a language, alternative texts, names of links and buttons, contrast. */
const RULES = [
  "document-title",
  "html-has-lang",
  "image-alt",
  "role-img-alt",
  "svg-img-alt",
  "link-name",
  "button-name",
  "color-contrast",
];

/** A violation of a rule, as axe reports it. */
interface Violation {
  readonly id: string;
  readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary: string }[];
}

/**
 * Looks at pages, and keeps a picture of each view.
 *
 * @param axe Source of axe-core.
 * @returns Problems, one line each.
 * @throws {ChromiumError} If there is no Chromium.
 */
export async function lookAtPages(
  folder: string,
  base: string,
  axe: string,
  pictures: string,
  paths: readonly string[] = PAGES,
): Promise<string[]> {
  await Deno.mkdir(pictures, { recursive: true });
  await using server = serveFolder(folder, base);
  await using browser = await openBrowser();
  const problems: string[] = [];
  for (const path of paths) {
    for (const width of [390, 1280]) {
      for (const colorScheme of ["light", "dark"] as const) {
        const view = `${path}, ${width} px, ${colorScheme}`;
        const page = await browser.newPage({
          viewport: { width, height: 900 },
          colorScheme,
          reducedMotion: "reduce",
        });
        page.on("pageerror", ({ message }) => problems.push(`${view}: ${message}`));
        page.on("console", (said) => said.type() === "error" && problems.push(`${view}: ${said.text()}`));
        page.on("request", (request) => {
          const { protocol, hostname } = new URL(request.url());
          if (protocol.startsWith("http") && hostname !== "127.0.0.1") {
            problems.push(`${view}: asks ${hostname}`);
          }
        });
        await page.goto(`http://127.0.0.1:${server.addr.port}${base}${path}`, { waitUntil: "networkidle" });
        await page.waitForFunction(`document.querySelector("pre.diagram") === null`);
        const wide: number = await page.evaluate("document.documentElement.scrollWidth");
        if (wide > width) problems.push(`${view}: the page is ${wide} px wide`);
        await page.evaluate(axe);
        const { violations }: { violations: Violation[] } = await page.evaluate(
          `axe.run({ runOnly: ${JSON.stringify(RULES)}, resultTypes: ["violations"] })`,
        );
        problems.push(
          ...violations.flatMap(({ id, nodes }) =>
            nodes.map(({ target, failureSummary }) =>
              `${view}: ${id}: ${target.join(" ")}: ${failureSummary.replaceAll(/\s+/g, " ")}`
            )
          ),
        );
        const name = path.replaceAll("/", "_").replace(/\.html$/, "");
        await page.screenshot({ path: `${pictures}/${name}_${width}_${colorScheme}.png` });
        await page.close();
      }
    }
  }
  return problems;
}
