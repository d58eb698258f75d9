/**
 * Probes all layers of Gemma 3 270M, windowed ones too, and writes results/gemma3-270m_probe.json. The probe's text is shorter
 * than the windows, so that a layer computes the same without its window; only then can local attention be compared with it.
 *
 * usage: deno run -A experiments/studies/retrieval/gemma.ts
 */
import { fileURLToPath } from "node:url";
import { openCpu } from "../../../ffi/mod.ts";
import { findRetrievalLayers, loadModel } from "../../../lib/model/mod.ts";
import { readVersion } from "../../../lib/version.ts";
import { writeWhole } from "../../commands/cli/files.ts";

const SEEDS = [0, 1, 2, 3, 4];

if (import.meta.main) {
  const loaded = await loadModel("gemma3-270m", await openCpu({ build: true }), { onNotice: console.error });
  const layers = loaded.model.config.layers!.map(({ window }) => window ?? null);
  for (const layer of loaded.model.config.layers!) delete (layer as { window?: number }).window;
  const probes = SEEDS.map((seed) => findRetrievalLayers(loaded, { seed }));
  const longest = 1 + 2 * probes[0]!.probe.tokens;
  if (layers.some((window) => window !== null && window < longest)) {
    throw new RangeError(`Cannot probe without windows: found one of fewer than ${longest} tokens`);
  }
  const { name: model, sha256: modelSha256 } = loaded, version = await readVersion();
  const path = fileURLToPath(new URL("results/gemma3-270m_probe.json", import.meta.url));
  const round = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
  await writeWhole(
    path,
    `${JSON.stringify({ version, model, modelSha256, windows: layers, probes }, round)}\n`,
  );
}
