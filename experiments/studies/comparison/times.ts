/**
 * Measures how long the study's methods take, next to the full model: prefill of one chunk, and decode after it. All take
 * turns in one run, on one thread. Writes times.json. Let nothing else run on the machine.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/comparison/times.ts DATA
 */
import { openCpu } from "../../../ffi/mod.ts";
import { type LengthRow, measureLengths } from "../../../lib/eval/mod.ts";
import { createPruner, readRecord } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readJson, readText, writeWhole } from "../../commands/cli/files.ts";
import { readCurves, timedName } from "./equal_cost.ts";

const FILE = new URL("times.json", import.meta.url);
/** Tokens of the prefill, tokens decoded after it, and turns whose median is taken. */
const TOKENS = 2048, DECODES = 16, TURNS = 3;

/** The measured times. */
export interface Times {
  readonly environment: {
    readonly model: string;
    readonly text: string;
    readonly textSha256: string;
    readonly turns: number;
    readonly decodes: number;
    readonly backend: string;
    readonly deno: string;
    readonly platform: string;
    readonly startedAt: string;
  };
  /** The full model first, then each method at each ratio. */
  readonly rows: readonly LengthRow[];
}

/** The committed times. */
export const readTimes = (): Promise<Times> => readJson(FILE.pathname) as Promise<Times>;

if (import.meta.main) {
  const path = `${Deno.args[0]}/wikitext2-test.txt`, text = await readText(path);
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
  await writeWhole(FILE.pathname, JSON.stringify({ environment, rows }, null, 2) + "\n");
}
