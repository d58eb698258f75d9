/** The garbage collector, for tests of the memory that it frees. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Lets the collector run until `done`, at most 500 times. */
export async function collectUntil(done: () => boolean): Promise<void> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let i = 0; i < 500 && !done(); i++) {
    gc();
    await new Promise((go) => setTimeout(go, 10));
  }
}
