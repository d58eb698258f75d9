/** PyTorch beside this project's kernels: a Python process that computes on the same numbers, with as many threads. */
import { TextLineStream } from "@std/streams/text-line-stream";
import type { AttentionArgs } from "../../lib/backend.ts";
import { f32Data } from "../../lib/tensor.ts";
import type { SHAPE } from "./attention.ts";

/** Answers of bench_torch.py. */
interface Answer {
  readonly version?: string;
  readonly id?: number;
  readonly timeMs?: number;
  readonly error?: string;
}

/** The running `bench_torch.py`. */
export interface Torch {
  /** PyTorch's version. */
  readonly version: string;
  /** Hands over the numbers of a dense call; returns its number. */
  prepare(
    phase: "prefill" | "decode",
    heads: string,
    shape: typeof SHAPE,
    args: AttentionArgs,
  ): Promise<number>;
  /** The result of a prepared call, [R, numHeads, headDim]. */
  output(id: number): Promise<Float32Array>;
  /** Milliseconds of `repeats` computations. */
  time(id: number, repeats: number): Promise<number>;
  /** Ends the process and removes its files. */
  close(): Promise<void>;
}

/**
 * Starts `python3` (or `TOKENFILTER_PYTHON`).
 *
 * @returns The process, or the reason why there is none.
 */
export async function startTorch(threads: number): Promise<Torch | string> {
  const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(python, {
      args: [`${import.meta.dirname}/../bench_torch.py`, String(threads)],
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
    return `"${python}" has no torch (TOKENFILTER_PYTHON names another)`;
  }
  const writer = child.stdin.getWriter(), folder = await Deno.makeTempDir({ prefix: "tokenfilter_bench_" });
  const send = async (question: object): Promise<Answer> => {
    await writer.write(new TextEncoder().encode(JSON.stringify(question) + "\n"));
    const { value, done } = await lines.read();
    if (done) throw new Error("Cannot race PyTorch: its process ended");
    const answer = JSON.parse(value) as Answer;
    if (answer.error !== undefined) throw new Error(`Cannot race PyTorch: ${answer.error}`);
    return answer;
  };
  return {
    version: (JSON.parse(first.value) as Answer).version!,
    async prepare(phase, heads, shape, args) {
      for (const name of ["queries", "keys", "values"] as const) {
        const { buffer, byteOffset, byteLength } = f32Data(args[name]);
        await Deno.writeFile(`${folder}/${name}`, new Uint8Array(buffer, byteOffset, byteLength));
      }
      return (await send({ do: "prepare", folder, phase, heads, ...shape })).id!;
    },
    async output(id) {
      await send({ do: "output", id, folder });
      return new Float32Array((await Deno.readFile(`${folder}/out`)).buffer);
    },
    time: async (id, repeats) => (await send({ do: "time", id, repeats })).timeMs!,
    async close() {
      await writer.close();
      await child.status;
      await lines.cancel();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
