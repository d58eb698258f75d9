/** PyTorch next to this project's kernels: a Python process that computes on the same numbers, with as many threads. */
import type { AttentionArgs } from "../../../lib/backend.ts";
import { f32Data } from "../../../lib/tensor.ts";
import type { SHAPE } from "./attention_call.ts";
import { startPython } from "./python.ts";

/** Answers of torch_attention.py. */
interface Answer {
  readonly version?: string;
  readonly id?: number;
  readonly timeMs?: number;
  readonly error?: string;
}

/** The running `torch_attention.py`. */
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
  const process = await startPython<Answer>("torch_attention.py", [String(threads)], "torch");
  if (typeof process === "string") return process;
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter_bench_" });
  return {
    version: process.hello.version!,
    async prepare(phase, heads, shape, args) {
      for (const name of ["queries", "keys", "values"] as const) {
        const { buffer, byteOffset, byteLength } = f32Data(args[name]);
        await Deno.writeFile(`${folder}/${name}`, new Uint8Array(buffer, byteOffset, byteLength));
      }
      return (await process.ask({ do: "prepare", folder, phase, heads, ...shape })).id!;
    },
    async output(id) {
      await process.ask({ do: "output", id, folder });
      return new Float32Array((await Deno.readFile(`${folder}/out`)).buffer);
    },
    time: async (id, repeats) => (await process.ask({ do: "time", id, repeats })).timeMs!,
    async close() {
      await process.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
