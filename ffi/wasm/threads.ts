/** Threads of WebAssembly: workers, each with an instance of its own over the memory that all share. */

/** Most threads of a context. */
export const MOST_THREADS = 64;

/** What a worker is given. */
interface ThreadStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** `tkf_context*`. */
  readonly context: number;
  /** Its number among the threads of the context, from 1. */
  readonly thread: number;
  /** The end of its stack. */
  readonly stack: number;
}

export interface ThreadWorker {
  terminate(): unknown;
}

/** What a worker of Node and one of browsers both have. */
interface AnyWorker extends ThreadWorker {
  postMessage(message: unknown): void;
  unref?(): void;
}

/**
 * A worker's program, the same in Node and in browsers: it says "started" or what went wrong, and serves until the context
 * is destroyed. A failure after that is the context's to report.
 */
const PROGRAM = `
const port = globalThis.process?.getBuiltinModule?.("node:worker_threads")?.parentPort ?? self;
const listen = async ({ data }) => {
  const { module, memory, context, thread, stack } = data, imports = { env: { memory } };
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    if (kind === "function") (imports[from] ??= {})[name] = () => 8; // what a system has: no body of an op calls it
  }
  let library;
  try {
    library = (await WebAssembly.instantiate(module, imports)).exports;
    library.__stack_pointer.value = stack;
    library.tkf_worker_enter(context);
    port.postMessage("started");
  } catch (error) {
    return port.postMessage(error.message);
  }
  try {
    library.tkf_worker_serve(context, thread);
  } catch {
    library.tkf_worker_fail(context);
  }
  port.close ? port.close() : close(); // in Deno, a port of Node has none
};
port.addEventListener("message", listen, { once: true });
port.start?.();
`;

/** The part of Node with threads, also in Deno and Bun; browsers have none. */
interface Process {
  getBuiltinModule?(name: "node:worker_threads"): {
    readonly Worker: new (program: string, options: { eval: true }) => AnyWorker & {
      on(event: "message" | "error", listener: (value: never) => void): void;
    };
  };
}

/** Makes a worker, and calls `said` with its first message, or `failed`. */
function makeWorker(said: (message: string) => void, failed: (error: Error) => void): AnyWorker {
  const { process } = globalThis as { process?: Process };
  const threads = process?.getBuiltinModule?.("node:worker_threads");
  if (threads !== undefined) {
    const worker = new threads.Worker(PROGRAM, { eval: true });
    worker.on("message", said);
    worker.on("error", failed);
    return worker;
  }
  const url = URL.createObjectURL(new Blob([PROGRAM], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  worker.onmessage = ({ data }) => said(data);
  worker.onerror = ({ message }) => failed(new Error(message));
  return worker;
}

/** Starts a thread; a program does not wait for it to end. @throws {Error} If it cannot start. */
export async function startWorker(start: ThreadStart): Promise<ThreadWorker> {
  let worker: AnyWorker | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      worker = makeWorker(
        (message) => message === "started" ? resolve() : reject(new Error(message)),
        reject,
      );
      worker.postMessage(start);
    });
  } catch (error) {
    worker?.terminate();
    throw error;
  }
  worker!.unref?.();
  return worker!;
}
