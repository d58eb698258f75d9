/** Backends in several Workers of a process: each has a stream and a context of its own. */
import { assert, assertEquals } from "@std/assert";
import { testEmulated, testsOnGpu } from "./testing.ts";
import { IN_SLOW_TIER } from "../../lib/testing.ts";
import { scoreOnDevice } from "./worker_testing.ts";

/** The losses that a fresh Worker sends. */
function scoreInWorker(): Promise<number[]> {
  const worker = new Worker(new URL("./worker_testing.ts", import.meta.url), { type: "module" });
  const { promise, resolve, reject } = Promise.withResolvers<number[]>();
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = (event) => (event.preventDefault(), reject(new Error(event.message)));
  worker.postMessage("begin");
  return promise.finally(() => worker.terminate());
}

testEmulated("backends in two Workers compute at once what one computes alone", async () => {
  const alone = await scoreOnDevice();
  assert(alone.length > 40 && alone.every(Number.isFinite));
  // The emulator runs kernels for one thread at a time.
  const both = testsOnGpu()
    ? await Promise.all([scoreInWorker(), scoreInWorker()])
    : [await scoreInWorker(), await scoreInWorker()];
  for (const losses of both) assertEquals(losses, alone);
}, IN_SLOW_TIER);
