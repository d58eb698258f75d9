/** A Python process that computes next to this project, with one JSON object per line in each direction. */
import { TextLineStream } from "@std/streams/text-line-stream";

/** A running script of this folder. */
export interface PythonProcess<Answer> {
  /** The line that it began with. */
  readonly hello: Answer;
  /** Asks, and waits for the answer. @throws {Error} If it ends, or answers with an error. */
  ask(question: object): Promise<Answer>;
  /** Ends it. */
  close(): Promise<void>;
}

/**
 * Starts `python3` (or `TOKENFILTER_PYTHON`) on a script, which ends at once where a package is missing.
 *
 * @param what The missing package, as the reason names it.
 * @returns The process, or the reason why there is none.
 */
export async function startPython<Answer extends { readonly error?: string }>(
  script: string,
  args: readonly string[],
  what: string,
): Promise<PythonProcess<Answer> | string> {
  const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(python, {
      args: [`${import.meta.dirname}/${script}`, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return `found no "${python}"`;
  }
  const text = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  const lines = text.getReader() as ReadableStreamDefaultReader<string>;
  const first = await lines.read();
  if (first.done) {
    await child.status;
    await child.stdin.abort().catch(() => {});
    return `"${python}" has no ${what} (TOKENFILTER_PYTHON names another)`;
  }
  const writer = child.stdin.getWriter();
  const close = async () => {
    await writer.close();
    await child.status;
    await lines.cancel();
  };
  const hello = JSON.parse(first.value) as Answer;
  if (hello.error !== undefined) {
    await close();
    return hello.error;
  }
  return {
    hello,
    close,
    async ask(question) {
      await writer.write(new TextEncoder().encode(JSON.stringify(question) + "\n"));
      const { value, done } = await lines.read();
      if (done) throw new Error(`Cannot race ${what}: its process ended`);
      const answer = JSON.parse(value) as Answer;
      if (answer.error !== undefined) throw new Error(`Cannot race ${what}: ${answer.error}`);
      return answer;
    },
  };
}
