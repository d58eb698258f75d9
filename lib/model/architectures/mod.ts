/** The architectures that run here. */
import type { ForwardPass, RunModel } from "../run/forward_pass.ts";
import type { Architecture } from "./architecture.ts";
import { gemma3 } from "./gemma3.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { smollm3 } from "./smollm3.ts";

/** All of them; files name one. */
export const ARCHITECTURES: readonly Architecture[] = [llama, mistral, qwen2, qwen3, phi3, gemma3, smollm3];

/** The architecture of a model. @throws {RangeError} If it is none that runs here. */
export function architectureOf({ architecture }: { readonly architecture: string }): Architecture {
  const found = ARCHITECTURES.find(({ name }) => name === architecture);
  if (found === undefined) {
    const names = ARCHITECTURES.map(({ name }) => `"${name}"`).join(", ");
    throw new RangeError(`Cannot run a model of architecture "${architecture}": expected one of ${names}`);
  }
  return found;
}

/** A forward pass of a model, with scratch of its own. */
export function createForwardPass(model: RunModel): ForwardPass {
  const { ForwardPass } = architectureOf(model.config);
  return new ForwardPass(model);
}
