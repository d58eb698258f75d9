/** Backends in several Workers of a process: each has a stream and a context of its own. */
import { assert, assertEquals } from "@std/assert";
import { testOnDevice } from "./testing.ts";
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

testOnDevice("backends in two Workers compute at once what one computes alone", async () => {
  const alone = await scoreOnDevice();
  assert(alone.length > 40 && alone.every(Number.isFinite));
  const both = await Promise.all([scoreInWorker(), scoreInWorker()]);
  for (const losses of both) assertEquals(losses, alone);
});
