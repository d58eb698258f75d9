/** The architectures that run here. */
import type { ForwardPass, ModelParts } from "../forward_pass.ts";
import type { Architecture } from "./architecture.ts";
import { llama } from "./llama.ts";

/** All of them; files name one. */
export const ARCHITECTURES: readonly Architecture[] = [llama];

/** The architecture of that name, if it runs here. */
export function findArchitecture(name: string): Architecture | undefined {
  return ARCHITECTURES.find((architecture) => architecture.name === name);
}

/** The architecture of a model. @throws {RangeError} If it is none that runs here. */
export function architectureOf({ architecture }: { readonly architecture: string }): Architecture {
  const found = findArchitecture(architecture);
  if (found === undefined) {
    const names = ARCHITECTURES.map(({ name }) => `"${name}"`).join(" or ");
    throw new RangeError(`Cannot run a model of architecture "${architecture}": expected ${names}`);
  }
  return found;
}

/** A forward pass of a model, with scratch of its own. */
export function createForwardPass(model: ModelParts): ForwardPass {
  const { ForwardPass } = architectureOf(model.config);
  return new ForwardPass(model);
}
