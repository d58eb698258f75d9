/** PyTorch's attention and products, and FlashInfer's attention, on the same GPU, through a Python process. */
import { run } from "../../../ffi/build/command.ts";
import { f32Data, type Tensor } from "../../../lib/tensor.ts";
import { expectClose } from "../bench/run.ts";
import { type Gpu, TURNS } from "./device.ts";

/** A product of `rows` rows by a matrix [n, k]. */
interface TorchProduct {
  readonly phase: "linear";
  readonly dtype: string;
  readonly rows: number;
  readonly n: number;
  readonly k: number;
}

interface TorchAttention {
  readonly phase: "prefill" | "decode";
  readonly dtype: string;
  readonly batch: number;
  readonly rows: number;
  readonly heads: number;
  readonly kv_heads: number;
  readonly dim: number;
}

/** A job of `torch_attention.py`. */
export type TorchJob = TorchAttention | TorchProduct;

/** The time of a backend of a library. */
export interface TorchTime {
  /** With its version. */
  readonly library: string;
  /** Such as "flash" or "cudnn"; "default": the one that it chooses itself. */
  readonly backend: string;
  readonly time_ms: number;
  readonly spread_ms: number;
}

/** PyTorch's times. */
export interface TorchTimes {
  readonly times: readonly TorchTime[];
  /** Backends that did not run, and why. */
  readonly missing: readonly string[];
}

/** A process that has not answered by then is ended. */
const LIMIT_MS = 240_000;

/**
 * Times PyTorch's `scaled_dot_product_attention`, with the backend that it chooses and with each of its own. With `check`, it computes on these inputs of a prefill, and its
 * output is compared with `out`, which holds ours.
 *
 * @returns the times, or the reason why there are none
 * @throws {Error} If the outputs differ.
 */
export async function timeTorch(
  { backend }: Gpu,
  job: TorchJob,
  check?: { readonly [name in "queries" | "keys" | "values" | "out"]: Tensor },
): Promise<TorchTimes | string> {
  const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-torch-" });
  try {
    for (const name of ["queries", "keys", "values"] as const) {
      if (check === undefined) break;
      const { data } = backend.read(check[name]);
      await Deno.writeFile(
        `${folder}/${name}`,
        new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength),
      );
    }
    const script = new URL("torch_attention.py", import.meta.url).pathname;
    const line = JSON.stringify({ ...job, turns: TURNS, ...(check && { folder }) });
    const signal = AbortSignal.timeout(LIMIT_MS);
    const { success, stdout, stderr } = await run(python, [script, line], { signal });
    if (signal.aborted) return `${python} has not answered for ${LIMIT_MS / 1000} s`;
    if (!success) return `${python} says: ${stderr.trim().split("\n").at(-1)}`;
    const answer = JSON.parse(stdout) as TorchTimes & { error?: string };
    if (answer.error !== undefined) return `${python} says: ${answer.error}`;
    if (check !== undefined) {
      const found = new Float32Array((await Deno.readFile(`${folder}/out`)).buffer);
      expectClose("PyTorch's prefill", found, f32Data(backend.read(check.out)), 3e-2);
    }
    return answer;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
