/** Python processes that compute next to this project, with one JSON object per line in each direction. */
import { TextLineStream } from "@std/streams/text-line-stream";
import type { Backend } from "../../../lib/backend.ts";
import { f32Data } from "../../../lib/tensor.ts";
import type { BenchCase } from "./run.ts";
import { expectClose } from "./tensors.ts";

/** A running script of this folder. */
interface PythonProcess<Answer> {
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
  python = Deno.env.get("TOKENFILTER_PYTHON") || "python3",
): Promise<PythonProcess<Answer> | string> {
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
    await writer.close().catch(() => {}); // it may have ended already
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
      const line = new TextEncoder().encode(JSON.stringify(question) + "\n");
      await writer.write(line).catch(() => {}); // an ended process has no answer, which is reported below
      const { value, done } = await lines.read();
      if (done) throw new Error(`Cannot race ${what}: its process ended`);
      const answer = JSON.parse(value) as Answer;
      if (answer.error !== undefined) throw new Error(`Cannot race ${what}: ${answer.error}`);
      return answer;
    },
  };
}

/** The running `torch_calls.py`, and its answers. */
export type Torch = PythonProcess<{
  readonly version?: string;
  readonly error?: string;
  readonly names?: string[];
  readonly timeMs?: number;
}>;

/** Starts PyTorch, or gives the reason why there is none. */
export const startTorch = (
  device: "cpu" | "cuda",
  threads: number,
  python?: string,
): Promise<Torch | string> =>
  startPython(
    "torch_calls.py",
    [device, `${threads}`],
    device === "cpu" ? "torch" : "torch for CUDA",
    python,
  );

/** PyTorch's ways of computing what a case does; where the case has tensors, on them, and with the same output. */
export async function torchCases(torch: Torch, backend: Backend, first: BenchCase): Promise<BenchCase[]> {
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter_bench_" }), { args, job } = first;
  try {
    if (args !== undefined) first.run();
    for (const name of args === undefined ? [] : ["queries", "keys", "values"] as const) {
      const { data } = backend.read(args![name]);
      const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    const { names } = await torch.ask({ do: "prepare", ...job, ...(args && { folder }) });
    for (const name of args === undefined ? [] : names!) {
      await torch.ask({ do: "output", name, folder });
      const found = new Float32Array((await Deno.readFile(`${folder}/out`)).buffer);
      const tolerance = job!.dtype === "f32" ? 1e-5 : 3e-2;
      expectClose(`PyTorch's attention, ${name}`, found, f32Data(backend.read(args!.out)), tolerance);
    }
    return names!.map((name) => ({
      ...first,
      impl: `torch ${torch.hello.version}, ${name}`,
      verify: () => {},
      time: async () => (await torch.ask({ do: "time", name })).timeMs!,
    }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
