/**
 * Compiles the CUDA kernels of ops for all architectures, and prints the paths of the objects. What would fail a build of
 * the library fails here too: a warning, local memory of a kernel, products that wait for each other.
 *
 * usage: deno run -A experiments/tools/build/compile.ts OP…
 */
import { compileOps } from "../../../ffi/build/cuda.ts";
import { EXIT, runTask } from "../../commands/cli/task.ts";

async function main(ops: readonly string[]): Promise<number> {
  const objects = await compileOps(ops, { onProgress: (message) => console.error(message) });
  for (const path of objects) console.log(path);
  return EXIT.ok;
}

if (import.meta.main) await runTask(main);
