/** A headless Chromium: where it is, and how it is driven. */

/** There is no Chromium, or it failed at its task. */
export class ChromiumError extends Error {
  override readonly name = "ChromiumError";
}

/** Names under which Chromium is installed, in the order in which they are tried. */
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

const VARIABLE = "TOKENFILTER_CHROMIUM";

/**
 * The path of a Chromium: the one of `TOKENFILTER_CHROMIUM`, else the first on the PATH; undefined without one.
 *
 * @param get Reads an environment variable. Default: that of this process.
 */
export function findChromium(
  get: (name: string) => string | undefined = (name) => Deno.env.get(name),
): string | undefined {
  const named = get(VARIABLE);
  if (named) return named;
  const folders = (get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  return NAMES.flatMap((name) => folders.map((folder) => `${folder}/${name}`)).find(isFile);
}

/** {@linkcode findChromium}, where there must be one. @throws {ChromiumError} If there is none. */
export function expectChromium(get?: (name: string) => string | undefined): string {
  const path = findChromium(get);
  if (path !== undefined) return path;
  throw new ChromiumError(
    `Cannot open a browser: found none of ${
      NAMES.join(", ")
    } on the PATH, expected one (install it, as with ` +
      `"apt-get install chromium", or set ${VARIABLE} to its path)`,
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Flags for a browser that shows pages of our own, on any machine, as any user. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"];

/** Milliseconds that a page may take, ten times the driver's default: dozens of plots draw slowly on a busy machine. */
export const PATIENCE_MS = 300_000;

/**
 * Opens a browser without a window; its driver (playwright-core) is loaded only here.
 *
 * @param program Path of the Chromium. Default: {@linkcode expectChromium}.
 * @throws {ChromiumError} If there is none, or it does not start.
 */
export async function openBrowser(program: string = expectChromium()) {
  const { chromium } = await import("playwright-core");
  try {
    const browser = await chromium.launch({ executablePath: program, args: FLAGS });
    const newPage = browser.newPage.bind(browser);
    browser.newPage = async (options) => {
      const page = await newPage(options);
      page.setDefaultTimeout(PATIENCE_MS);
      return page;
    };
    return browser;
  } catch (error) {
    const [first] = (error as Error).message.split("\n");
    throw new ChromiumError(`Cannot start ${program}: ${first} (see ${VARIABLE})`);
  }
}

type Browser = Awaited<ReturnType<typeof openBrowser>>;
type Page = Awaited<ReturnType<Browser["newPage"]>>;

/**
 * Opens a browser, and in it an empty page of a width.
 *
 * @throws {ChromiumError} If there is no browser, or the page fails.
 */
export async function inPage<T>(width: number, use: (page: Page) => Promise<T>): Promise<T> {
  const browser = await openBrowser();
  try {
    const page = await browser.newPage({ viewport: { width, height: 1000 }, deviceScaleFactor: 1 });
    return await use(page).catch((error: Error) => {
      throw new ChromiumError(`Cannot draw an image: ${error.message.split("\n")[0]}`);
    });
  } finally {
    await browser.close();
  }
}
