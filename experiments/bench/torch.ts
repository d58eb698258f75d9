/** PyTorch beside us: a Python process that computes on the same numbers, with as many threads. */
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
export class TorchProcess {
  /** PyTorch's version. */
  readonly version: string;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncGenerator<string>;
  readonly #folder: string;

  private constructor(
    version: string,
    child: Deno.ChildProcess,
    writer: WritableStreamDefaultWriter<Uint8Array>,
    lines: AsyncGenerator<string>,
    folder: string,
  ) {
    this.version = version;
    this.#child = child;
    this.#writer = writer;
    this.#lines = lines;
    this.#folder = folder;
  }

  /**
   * Starts `python3` (or `TOKENFILTER_PYTHON`).
   *
   * @returns The process, or the reason why there is none.
   */
  static async start(threads: number): Promise<TorchProcess | string> {
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
    const lines = linesOf(child.stdout);
    const first = await lines.next();
    if (first.done) {
      await child.status;
      await child.stdin.abort().catch(() => {});
      return `"${python}" has no torch (TOKENFILTER_PYTHON names another)`;
    }
    const { version } = JSON.parse(first.value) as Answer;
    const folder = await Deno.makeTempDir({ prefix: "tokenfilter_bench_" });
    return new TorchProcess(version!, child, child.stdin.getWriter(), lines, folder);
  }

  /** Hands over the numbers of a dense call; returns its number. */
  async prepare(
    phase: "prefill" | "decode",
    heads: "grouped" | "repeated",
    shape: typeof SHAPE,
    args: AttentionArgs,
  ): Promise<number> {
    for (const name of ["queries", "keys", "values"] as const) {
      const { buffer, byteOffset, byteLength } = f32Data(args[name]);
      await Deno.writeFile(`${this.#folder}/${name}`, new Uint8Array(buffer, byteOffset, byteLength));
    }
    const { id } = await this.#ask({ do: "prepare", folder: this.#folder, phase, heads, ...shape });
    return id!;
  }

  /** The result of a prepared call, [R, numHeads, headDim]. */
  async output(id: number): Promise<Float32Array> {
    await this.#ask({ do: "output", id, folder: this.#folder });
    return new Float32Array((await Deno.readFile(`${this.#folder}/out`)).buffer);
  }

  /** Milliseconds of `repeats` computations. */
  async time(id: number, repeats: number): Promise<number> {
    return (await this.#ask({ do: "time", id, repeats })).timeMs!;
  }

  /** Ends the process and removes its files. */
  async close(): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
    await this.#child.stdout.cancel().catch(() => {});
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #ask(question: object): Promise<Answer> {
    await this.#writer.write(new TextEncoder().encode(JSON.stringify(question) + "\n"));
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("Cannot race PyTorch: its process ended");
    const answer = JSON.parse(value) as Answer;
    if (answer.error !== undefined) throw new Error(`Cannot race PyTorch: ${answer.error}`);
    return answer;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream.values({ preventCancel: true })) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}
