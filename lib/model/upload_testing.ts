/** Weights that tests make themselves, on a backend. */
import type { Backend } from "../backend.ts";
import type { HostTensor } from "../tensor.ts";
import type { LayerWeights, ModelWeights } from "./weights.ts";

/** The same weights on a backend (no copy where it computes in this process's memory). */
export function uploadWeights(weights: ModelWeights<HostTensor>, backend: Backend): ModelWeights {
  const upload = (tensor: HostTensor) => backend.upload(tensor);
  const embedding = upload(weights.embedding);
  return {
    embedding,
    layers: weights.layers.map((layer) => {
      const entries = Object.entries<HostTensor>(layer).map(([name, tensor]) => [name, upload(tensor)]);
      return Object.fromEntries(entries) as LayerWeights;
    }),
    outputNorm: upload(weights.outputNorm),
    output: weights.output === weights.embedding ? embedding : upload(weights.output),
  };
}
