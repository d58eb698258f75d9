/** `--live`: the report of a sweep in a browser of this machine, while it runs. */
import { UsageError } from "../../../lib/errors.ts";
import { type FlagValues, readInteger, textOf } from "../cli/flags/parse.ts";
import { writeLine } from "../cli/task.ts";
import type { FromServer, ToServer } from "./worker.ts";

/** The port of `--live`: 0 = any that is free; undefined = no page. @throws {UsageError} If it is no port. */
export function readLivePort(values: FlagValues): number | undefined {
  const port = textOf(values, "live");
  if (port === undefined) return undefined;
  return port === "" ? 0 : readInteger("live", port, 0, 65535);
}

/** Milliseconds after which a page that does not close is abandoned. */
const LATE_MS = 4000;

/**
 * Opens a page and reports its address. If a run ends without a final message, the page shows that it has stopped.
 *
 * @throws {UsageError} If the port is taken.
 */
export async function openLive(port: number) {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const send = (message: ToServer) => worker.postMessage(message);
  const answer = () =>
    new Promise<FromServer>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
    });
  send({ open: port });
  const opened = await answer();
  if (!("url" in opened)) {
    worker.terminate();
    const why = "failed" in opened ? opened.failed : "";
    throw new UsageError(
      `Cannot use --live ${port}: ${why} (take another port, or none for one that is free)`,
    );
  }
  writeLine(Deno.stderr, `Live report: ${opened.url}`);
  let isOpen = true;
  /** Shows the final message and closes the page. */
  const end = async (text: string) => {
    if (!isOpen) return;
    isOpen = false;
    send({ end: text });
    // A failure of the page is no failure of the run.
    const late = Promise.withResolvers<void>(), timer = setTimeout(late.resolve, LATE_MS);
    await Promise.race([answer().catch(() => {}), late.promise]);
    clearTimeout(timer);
    worker.terminate();
  };
  return {
    /** Shows a study as it grows. @param path Of its file */
    follow: (path: string) => send({ follow: path }),
    end,
    [Symbol.asyncDispose]: () => end("The run has stopped: this is what it had finished."),
  };
}
