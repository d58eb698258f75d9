/**
 * Measures how long the study's methods take, next to the full model: prefill of one chunk, and decode after it. All take
 * turns in one run, on one thread. Writes times.json. Let nothing else run on the machine.
 *
 * usage: deno run -A experiments/studies/comparison/times.ts DATA
 */
import { openCpu } from "../../../ffi/mod.ts";
import { measureLengths } from "../../../lib/eval/mod.ts";
import { createPruner, readRecord } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readText, writeWhole } from "../../commands/cli/files.ts";
import { readCurves, timedName, type Times, TIMES_FILE } from "./equal_cost.ts";

/** Tokens of the prefill, tokens decoded after it, and turns whose median is taken. */
const TOKENS = 2048, DECODES = 16, TURNS = 3;

if (import.meta.main) {
  const [data] = Deno.args;
  if (data === undefined) {
    console.error("Cannot measure times: expected DATA, the folder of wikitext2-test.txt");
    Deno.exit(2);
  }
  const text = await readText(`${data}/wikitext2-test.txt`);
  const backend = await openCpu({ threads: 1, build: true }), startedAt = new Date().toISOString();
  const { model, tokenizer, config } = await loadModel("smollm2-135m", backend);
  const ids = tokenizer.encode(text.slice(0, 16 * TOKENS), { bos: true }).slice(0, TOKENS + DECODES);
  const methods = (await readCurves()).flatMap((curve) =>
    curve.methods.map((method) => ({
      name: timedName(curve, method),
      pruner: createPruner("token-filtering", config, readRecord(method.options!), { backend }),
    }))
  );
  const rows = measureLengths(model, Int32Array.from(ids), [{ name: "dense" }, ...methods], {
    ...{ lengths: [TOKENS], turns: TURNS, decodes: DECODES },
    onProgress: (done) => console.error(`${(100 * done).toFixed(0)}%`),
  });
  const environment: Times["environment"] = {
    ...{ model: "smollm2-135m", text: "wikitext2-test.txt", textSha256: await sha256(text) },
    ...{ turns: TURNS, decodes: DECODES, backend: backend.description, deno: Deno.version.deno },
    ...{ platform: `${Deno.build.os} ${Deno.build.arch}`, startedAt },
  };
  await writeWhole(TIMES_FILE, JSON.stringify({ environment, rows }, null, 2) + "\n");
}
