/** Commands in process groups of their own: processes that a command has started end with it. */

export interface Ran {
  readonly success: boolean;
  /** Its output on both streams, in order of arrival. */
  readonly output: string;
  /** Whether it was ended because it took too long. */
  readonly timedOut: boolean;
  readonly seconds: number;
}

export interface GroupOptions extends Pick<Deno.CommandOptions, "cwd" | "env"> {
  /** Seconds after which it is ended. */
  readonly limit: number;
  readonly signal?: AbortSignal;
}

/** Runs a command without input, to its end or to the limit. */
export async function runGroup(
  [program, ...args]: readonly [string, ...string[]],
  { limit, signal, ...options }: GroupOptions,
): Promise<Ran> {
  const began = performance.now();
  const child = new Deno.Command(program, {
    ...options,
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
  const end = () => {
    try {
      Deno.kill(-child.pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it has ended already
    }
  };
  let output = "", timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, limit * 1000);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  const collect = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) output += text;
  };
  try {
    const [{ success }] = await Promise.all([child.status, collect(child.stdout), collect(child.stderr)]);
    return { success, output, timedOut, seconds: (performance.now() - began) / 1000 };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
    end();
  }
}
