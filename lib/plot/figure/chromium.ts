/** A headless Chromium: where it is, and what a page holds once its scripts have run. */

/** There is no Chromium, or it could not do what it was asked for. */
export class ChromiumError extends Error {
  /** Name of the class. */
  override readonly name = "ChromiumError";
}

/** Names under which Chromium is installed, in the order in which they are tried. */
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Environment variable that names the program. */
const VARIABLE = "TOKENFILTER_CHROMIUM";

/** Flags for a browser that shows pages of our own, on any machine, as any user. */
export const CHROMIUM_FLAGS: readonly string[] = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--hide-scrollbars",
];

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

/** Longest time that a page may take, in milliseconds: the largest takes a few seconds. */
const TIMEOUT_MS = 120_000;

/**
 * Opens a page without a window and gives back its document after its scripts have run.
 *
 * @param html The page, scripts and all.
 * @param width Of the window, in pixels.
 * @param program Path of the Chromium. Default: {@linkcode expectChromium}.
 * @throws {ChromiumError} If there is no Chromium, or it fails.
 */
export async function dumpPage(
  html: string,
  width: number,
  program: string = expectChromium(),
): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-" });
  try {
    await Deno.writeTextFile(`${folder}/page.html`, html);
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args: [
        "--headless",
        ...CHROMIUM_FLAGS,
        `--user-data-dir=${folder}/profile`,
        `--window-size=${width},2000`,
        // Time in the page is counted by its work, not by the clock: a slow machine cannot cut it short.
        "--virtual-time-budget=60000",
        "--dump-dom",
        `file://${folder}/page.html`,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).output();
    if (success) return new TextDecoder().decode(stdout);
    const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
    throw new ChromiumError(`Cannot open a page in ${program}: it ended with "${last}"`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied)) {
      throw error;
    }
    throw new ChromiumError(`Cannot start ${program}: ${error.message} (see ${VARIABLE})`);
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}
