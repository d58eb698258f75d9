/** A Worker with a device of its own: it answers each message with losses of the small model. */
import { openTestDevice } from "./testing.ts";
import { filtering, ids, modelOn } from "./small_model/testing.ts";
import { scoreSequence } from "../../lib/eval/mod.ts";

/** Losses of a text in a prefill of pieces and in recorded decode steps, filtered. */
export async function scoreOnDevice(): Promise<number[]> {
  const { backend } = await openTestDevice(), model = modelOn(backend), tokens = ids(24);
  const pruner = () => filtering({ fusion: "variance", recent: 4 }, backend);
  return [{ chunk: 10 }, { phase: "decode" } as const].flatMap((how) => [
    ...scoreSequence(model, tokens, pruner(), how).nll,
  ]);
}

const scope = globalThis as unknown as { onmessage: () => void; postMessage(losses: number[]): void };
if ("DedicatedWorkerGlobalScope" in globalThis) {
  scope.onmessage = async () => scope.postMessage(await scoreOnDevice());
}
