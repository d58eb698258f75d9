/** The model `tiny` at growing lengths, dense and with half of all attention skipped. */
import type { Backend } from "../../lib/backend.ts";
import { type LengthRow, type MeasuredMethod, measureLengths, readBuiltinText } from "../../lib/eval/mod.ts";
import { createPruner } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import type { Progress } from "../cli/progress.ts";

const LENGTHS = [128, 256, 512, 1024, 2048];
const RULES = ["learned", "variance"] as const;

/** Measures dense, `learned` and `variance` in turns. */
export async function measureTiny(backend: Backend, progress: Progress): Promise<LengthRow[]> {
  const { model, tokenizer, config } = await loadModel("tiny", backend);
  const ids = Int32Array.from(tokenizer.encode(await readBuiltinText(), { bos: tokenizer.addsBos }));
  const filtered = RULES.map((fusion): MeasuredMethod => ({
    name: `${fusion}, half skipped`,
    pruner: createPruner("token-filtering", config, { fusion, pruneRatio: 0.5 }, { backend }),
  }));
  progress.line(`tiny at ${LENGTHS.join(", ")} tokens`);
  progress.start();
  const rows = measureLengths(model, ids, [{ name: "dense" }, ...filtered], {
    lengths: LENGTHS,
    onProgress: (fraction) => progress.bar(fraction, "lengths"),
  });
  progress.clear();
  return rows;
}
