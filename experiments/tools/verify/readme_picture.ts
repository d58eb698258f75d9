/**
 * Makes the pictures of README, `docs/images/token_map_{light,dark}.png`: a text under the filter. Needs a Chromium.
 *
 * ```sh
 * deno run -A experiments/tools/verify/readme_picture.ts
 * ```
 */
import { openCpu } from "../../../ffi/mod.ts";
import { readBuiltinText } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { collectTokenMap, DARK, LIGHT, plotTokenMap, recordTrace } from "../../../lib/plot/mod.ts";

const backend = await openCpu({ build: true });
const { model, tokenizer, config } = await loadModel("tiny", backend);
const ids = tokenizer.encode(await readBuiltinText(), { bos: tokenizer.addsBos }).slice(0, 138);
const record = recordTrace();
const options = { fusion: "learned", pruneRatio: 0.3, warmup: 32 } as const;
model.start(createPruner("token-filtering", config, options, { backend, trace: record.trace })).feed(ids);
const map = plotTokenMap(collectTokenMap(record.layers(), tokenizer.texts(ids), { warmup: 32 }));
for (const [name, theme] of [["light", LIGHT], ["dark", DARK]] as const) {
  const path = new URL(`../../../docs/images/token_map_${name}.png`, import.meta.url);
  await map.saveImage(path.pathname, { width: 780, scale: 1.2, theme });
}
